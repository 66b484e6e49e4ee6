"""Retiring KEKs: whatever refers to one keeps it, and nothing can come under it any more before it goes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.errors import Invalid, NotFound, StoreUnavailable
from gateway.model import SYSTEM, Tenant, new_id
from gateway.ports import Rewrapped
from gateway.repair.verify import stored_envelope
from gateway.rotation.status import SETTLE
from gateway.rotation.tiers import Tiers
from gateway.rotation.verification import Verification
from gateway.targets.quorum import Role, Target
from keyservice.wire import TenantKeys, TenantRoot, Unavailable, WrongState
from tests.contracts.catalog.samples import (
    ANY,
    START,
    kek_of,
    new_upload,
    put,
)
from tests.doubles.blobs import commit, overwrite, piece, place, rewrapped, seal
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.rotation.conftest import TTL, Site


async def test_one_that_nothing_refers_to_goes_after_the_caches(site: Site) -> None:
    await site.rotate()
    assert await site.retire() == {site.old: ()}
    assert site.waited == [timedelta(seconds=TTL) + SETTLE]
    assert site.gone()
    assert await site.closed()
    # Again: there is nothing to do, and nothing to wait for.
    assert await site.retire() == {}
    assert await site.retire(site.old) == {site.old: ()}
    assert len(site.waited) == 1
    assert site.control.called("retire_kek") == [site.tenant]


async def test_one_that_the_key_service_keeps_for_now_is_told_and_keeps_no_other(
    site: Site,
) -> None:
    """As one that was replaced too lately."""
    await site.rotate()
    await site.rotate()
    retire, refused = site.control.retire_kek, "it may be retired from tomorrow on"

    async def lately(tenant: str, kek: str, **said: str) -> TenantKeys:
        if kek != site.old:
            raise WrongState(refused)
        return await retire(tenant, kek, reason=said["reason"])

    site.control.retire_kek = lately  # type: ignore[method-assign]
    found = await site.retire()
    assert site.gone()
    assert found[site.old] == ()
    assert [blocks for kek, blocks in found.items() if kek != site.old] == [(refused,)]


async def test_the_current_one_stays(site: Site) -> None:
    assert await site.retire() == {}
    ((_, blocks),) = (await site.retire(site.old)).items()
    assert blocks == ("it is current: rotate first",)


async def test_whatever_is_under_it_is_listed_and_keeps_it_without_a_wait(site: Site) -> None:
    first, second = [await put(site.catalog, site.tenant, name) for name in ("a", "b")]
    await put(site.catalog, site.tenant, "c")
    await site.catalog.trash(site.tenant, "c", ANY)
    await site.rotate()
    new = kek_of(site.tenant, 2)
    await site.catalog.wraps.rewrap([Rewrapped(first.id, first.blob, site.old, new, b"new")])

    ((_, blocks),) = (await site.retire()).items()

    assert blocks[:4] == (
        "1 version",
        "1 version in the trash or being purged",
        "1 envelope on backup not yet replaced",
        "1 envelope on primary not yet replaced",
    )
    assert not site.waited
    assert not site.gone()
    assert not await site.closed()
    assert second.kek == site.old


async def test_an_upload_that_commits_while_caches_are_waited_for_keeps_it(site: Site) -> None:
    await site.rotate()
    site.asleep = lambda: put(site.catalog, site.tenant, "late")
    assert await site.retire() == {site.old: ("1 version",)}
    assert not site.gone()


async def test_an_upload_that_began_before_keeps_it(site: Site) -> None:
    upload = new_upload(site.tenant)
    await site.catalog.begin(upload, "slow")
    await site.rotate()
    ((_, blocks),) = (await site.retire()).items()
    assert blocks == ("1 upload under way that began before it was out of use",)
    await site.catalog.forget(upload.id)
    assert await site.retire() == {site.old: ()}


async def test_an_upload_that_comes_after_the_last_look_is_lost(site: Site) -> None:
    await site.rotate()
    seen: list[bool] = []

    async def verify(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        assert (tenant, keks) == (site.tenant, frozenset({site.old}))
        seen.append(await site.closed())
        return []

    assert await site.retire(verify=verify) == {site.old: ()}
    assert seen == [True]


async def test_what_is_found_on_a_target_keeps_it(site: Site) -> None:
    await site.rotate()

    async def verify(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        del tenant, keks
        return ["3 on east: envelopes still under it"]

    assert await site.retire(verify=verify) == {site.old: ("3 on east: envelopes still under it",)}
    assert not site.gone()
    assert await site.closed()


async def test_of_two_that_retire_it_one_that_gives_up_lets_nothing_come_under_it(
    site: Site,
) -> None:
    await site.rotate()
    seen: list[bool] = []

    async def refuse(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        del tenant, keks
        return ["east does not answer"]

    async def verify(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        del tenant, keks
        assert await site.retire(verify=refuse) == {site.old: ("east does not answer",)}
        seen.append(await site.closed())
        return []

    assert await site.retire(verify=verify) == {site.old: ()}
    assert seen == [True]
    assert site.gone()


async def test_a_verification_that_breaks_off_leaves_it_to_the_next_try(site: Site) -> None:
    await site.rotate()

    async def verify(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        del tenant, keks
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await site.retire(verify=verify)
    assert not site.gone()
    assert await site.closed()


async def test_a_key_service_that_does_not_answer_leaves_it_to_the_next_try(site: Site) -> None:
    await site.rotate()

    async def verify(tenant: str, keks: frozenset[str]) -> Sequence[str]:
        del keks
        site.control.refuse[tenant] = Unavailable("down")
        return []

    with pytest.raises(Unavailable):
        await site.retire(verify=verify)
    site.control.refuse.clear()
    assert await site.closed()
    assert await site.retire() == {site.old: ()}
    assert site.gone()


async def test_of_a_tenant_that_is_not_active_none_goes(site: Site) -> None:
    await site.rotate()
    await site.control.suspend(site.tenant, reason="")
    ((_, blocks),) = (await site.retire()).items()
    assert "the tenant is suspended" in blocks
    assert not site.gone()


async def test_what_is_not_there_is_said(site: Site) -> None:
    with pytest.raises(NotFound, match="no such KEK"):
        await site.retire("another")
    for tenant in (new_id(), SYSTEM):
        with pytest.raises(NotFound, match="no such tenant"):
            await site.retirement.retire(tenant, None, reason="")


async def test_every_status_is_told_and_one_refusal_hides_no_other(site: Site) -> None:
    other = new_id()
    await site.catalog.add_tenant(Tenant(other, "standard", START))
    found = dict(await site.statuses.all())
    assert found[other] == "unknown-tenant"
    told = found[site.tenant]
    assert not isinstance(told, str)
    assert [each.about.state for each in told.keks] == ["current"]
    assert not told.overdue


@pytest.fixture
def stores() -> dict[str, FaultyStore]:
    return {"primary": FaultyStore(), "east": FaultyStore()}


def _verification(site: Site, stores: dict[str, FaultyStore]) -> Verification:
    targets = [
        Target(name, Role.PRIMARY if name == "primary" else Role.BACKUP, store)
        for name, store in stores.items()
    ]
    return Verification(site.catalog, site.catalog.wraps, targets)


async def test_a_verification_reads_what_is_there_and_tells_the_catalog(
    site: Site, stores: dict[str, FaultyStore]
) -> None:
    blob = await commit(site.catalog, site.tenant, b"content", stores, on=list(stores), inline=True)
    newer = rewrapped(blob)
    await site.catalog.wraps.rewrap([Rewrapped(newer.id, newer.blob, "k1", "k2", newer.envelope)])
    for stale in await site.catalog.wraps.claim_stale(
        tenant=None, targets=list(stores), lease=timedelta(1), limit=9
    ):
        assert await site.catalog.wraps.pushed(stale, "k2")  # and yet it was not written
    assert not await site.catalog.wraps.uses(site.tenant)
    await overwrite(stores["primary"], blob.envelope_key, stored_envelope(newer))

    told: list[int] = []

    async def tell(progress: Mapping[str, int]) -> None:
        told.append(progress["read"])

    found = await _verification(site, stores).find(site.tenant, frozenset({"k1"}), tell)

    assert told == [1, 2]
    assert [words.partition(":")[0] for words in found] == ["1 on east"]
    assert "still under it" in found[0]
    uses = {use.kek: use for use in await site.catalog.wraps.uses(site.tenant)}
    assert uses["k1"].stale == {"east": 1}
    await overwrite(stores["east"], blob.envelope_key, stored_envelope(newer))
    assert not await _verification(site, stores).find(site.tenant, frozenset({"k1"}))


@pytest.mark.parametrize("name", ["README", "a/b", "A" * 32, "", "0" * 300])
async def test_objects_with_strange_names_keep_no_kek(
    site: Site, stores: dict[str, FaultyStore], name: str
) -> None:
    blob = seal(b"ours, once", tenant=site.tenant)
    stores["east"].have(f"t/{site.tenant}/{name}/envelope", blob.sealed)
    assert not await _verification(site, stores).find(site.tenant, frozenset({"k1"}))


async def test_a_verification_tells_what_no_version_owns_and_what_it_cannot_read(
    site: Site, stores: dict[str, FaultyStore]
) -> None:
    await place(stores["east"], seal(b"orphan", tenant=site.tenant))
    damaged = seal(b"damaged", tenant=site.tenant)
    await stores["east"].put(damaged.envelope_key, piece(b"no envelope"))
    verification = _verification(site, stores)

    found = await verification.find(site.tenant, frozenset({"k1"}))
    assert [words.partition(":")[0] for words in found] == ["1 on east", "1 on east"]
    assert "no version owns" in found[0]
    assert "cannot be read" in found[1]
    # Another tenant's are none of its business.
    assert not await verification.find(new_id(), frozenset({"k1"}))

    stores["east"].read_fault, stores["east"].read_limit = StoreUnavailable("away"), 0
    found = await verification.find(site.tenant, frozenset({"k1"}))
    assert found == ["east does not answer: what it holds cannot be verified"]


async def test_a_complete_upload_without_a_version_keeps_it_and_is_called_so(
    site: Site, stores: dict[str, FaultyStore]
) -> None:
    """It may have been acknowledged, and its version lost with the catalog's last moments."""
    blob = seal(b"acknowledged", tenant=site.tenant)
    upload = replace(new_upload(site.tenant), blob=blob.version.blob)
    await site.catalog.begin(upload, "a")
    await site.catalog.fence(upload.id)
    await place(stores["east"], blob)
    (found,) = await _verification(site, stores).find(site.tenant, frozenset({"k1"}))
    assert "no version has" in found


async def test_a_move_is_noted_in_the_catalog_and_can_be_asked_for_again(site: Site) -> None:
    tiers = Tiers(site.catalog, site.control)
    for _ in range(2):
        moved = await tiers.move(site.tenant, tier="standard", reason="")
        assert moved.root == TenantRoot("shared")
        assert (await site.catalog.tenant(site.tenant)).tier == "standard"
    own = [await tiers.move(site.tenant, tier="business", reason="") for _ in range(2)]
    assert own[0].root == own[1].root
    assert own[0].root.custody == "own"
    fresh = await tiers.move(site.tenant, fresh=True, reason="")
    assert fresh.root != own[0].root
    assert (await tiers.move(site.tenant, held="acme", reason="")).root.name == "acme"
    await tiers.move(site.tenant, tier="standard", reason="")
    with pytest.raises(Invalid, match="move it to business"):
        await tiers.move(site.tenant, fresh=True, reason="")
