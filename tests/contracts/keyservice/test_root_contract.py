"""What every root promises (keyservice.ports.Root)."""

import asyncio
import datetime as dt
import itertools
import secrets
from collections.abc import Callable

import pytest

from keyservice.errors import CannotUnwrap, Unavailable, UnknownTenant, WrongState
from keyservice.ports import Root, RootVersions
from keyservice.records import OWN, SHARED, Custody, KekState, KekVersion, RootRef
from tests.contracts.keyservice.conftest import Pair

REFS = (SHARED, OWN, RootRef(Custody.OWN, "0a1b2c3d"))
ROOTS = pytest.mark.parametrize("ref", REFS, ids=str)
HELD = RootRef(Custody.HELD, "customer")
ALL = pytest.mark.parametrize("ref", [*REFS, HELD], ids=str)


def new_tenant() -> str:
    return secrets.token_hex(16)


@ALL
async def test_what_was_wrapped_opens(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, ref, kek)
    assert wrapped.isascii()
    assert await root.unwrap(tenant, ref, wrapped) == kek


@ALL
async def test_another_instance_opens_it(again: Callable[[], Pair], ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    one, other = again().root, again().root
    await one.create(tenant, ref)
    assert await other.unwrap(tenant, ref, await one.wrap(tenant, ref, kek)) == kek


@ALL
async def test_it_is_another_text_each_time(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, ref)
    assert await root.wrap(tenant, ref, kek) != await root.wrap(tenant, ref, kek)


@ALL
async def test_it_opens_for_no_other_tenant(root: Root, ref: RootRef) -> None:
    one, other = new_tenant(), new_tenant()
    await root.create(one, ref)
    await root.create(other, ref)
    wrapped = await root.wrap(one, ref, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(other, ref, wrapped)


@pytest.mark.parametrize(("made", "asked"), list(itertools.permutations([*REFS, HELD], 2)), ids=str)
async def test_it_opens_under_no_other_root(root: Root, made: RootRef, asked: RootRef) -> None:
    tenant = new_tenant()
    for ref in (*REFS, HELD):
        await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, made, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, asked, wrapped)


@ALL
async def test_create_changes_nothing_the_second_time(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await asyncio.gather(*(root.create(tenant, ref) for _ in range(8)))
    wrapped = await root.wrap(tenant, ref, kek)
    await root.create(tenant, ref)
    assert await root.unwrap(tenant, ref, wrapped) == kek


async def test_a_business_tenant_needs_a_root_key_of_its_own(root: Root) -> None:
    tenant = new_tenant()
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, OWN, secrets.token_bytes(32))
    other = new_tenant()
    await root.create(other, OWN)
    wrapped = await root.wrap(other, OWN, secrets.token_bytes(32))
    with pytest.raises(UnknownTenant):
        await root.unwrap(tenant, OWN, wrapped)


@ALL
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
async def test_damage_does_not_open(root: Root, ref: RootRef, place: float) -> None:
    tenant = new_tenant()
    await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, ref, secrets.token_bytes(32))
    at = int(len(wrapped) * place)
    flipped = "A" if wrapped[at] != "A" else "B"
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, ref, wrapped[:at] + flipped + wrapped[at + 1 :])


@pytest.mark.parametrize("text", ["", "A", "vault:v1:", "local:v1:", "local:v1:%%", "é", "0" * 500])
async def test_what_is_no_wrapped_key_does_not_open(root: Root, text: str) -> None:
    with pytest.raises(CannotUnwrap):
        await root.unwrap(new_tenant(), SHARED, text)


@pytest.mark.parametrize("tenant", ["", "../standard", "A" * 32, "0" * 31, "0" * 32 + "/x"])
@ALL
async def test_what_is_no_tenant_leads_nowhere(root: Root, tenant: str, ref: RootRef) -> None:
    with pytest.raises(UnknownTenant):
        await root.create(tenant, OWN)
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, ref, secrets.token_bytes(32))


@ROOTS
async def test_a_rotated_root_opens_what_is_old_and_wraps_anew(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, ref)
    old = await root.wrap(tenant, ref, kek)
    before = await root.versions(tenant, ref)
    assert before.minimum == before.latest == _version(old)
    made = dt.datetime.fromtimestamp(before.created / 1e6, dt.UTC)
    assert abs(dt.datetime.now(dt.UTC) - made) < dt.timedelta(hours=1)
    assert await root.rotate(tenant, ref) == before.latest + 1
    assert await root.versions(tenant, ref) == RootVersions(before.latest + 1, before.minimum)
    new = await root.rewrap(tenant, ref, old)
    assert _version(new) == _version(await root.wrap(tenant, ref, kek)) == before.latest + 1
    assert await root.unwrap(tenant, ref, old) == await root.unwrap(tenant, ref, new) == kek


@ROOTS
async def test_a_retired_version_opens_nothing_on_any_instance(
    again: Callable[[], Pair], ref: RootRef
) -> None:
    one, other = again().root, again().root
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await one.create(tenant, ref)
    old = await one.wrap(tenant, ref, kek)
    latest = await one.rotate(tenant, ref)
    new = await one.rewrap(tenant, ref, old)
    for minimum in (latest, latest, 1):  # a lower one changes nothing
        await one.retire(tenant, ref, minimum)
        assert await other.versions(tenant, ref) == RootVersions(latest, latest)
    for use in (other.unwrap, other.rewrap):
        with pytest.raises(CannotUnwrap):
            await use(tenant, ref, old)
    assert await other.unwrap(tenant, ref, new) == kek
    with pytest.raises(WrongState):
        await one.retire(tenant, ref, latest + 1)


@ALL
async def test_a_rewrap_is_the_tenants_alone(root: Root, ref: RootRef) -> None:
    one, other = new_tenant(), new_tenant()
    await root.create(one, ref)
    await root.create(other, ref)
    wrapped = await root.wrap(one, ref, secrets.token_bytes(32))
    for text in (wrapped, "", "vault:v1:", "local:v1:AAAA"):
        with pytest.raises(CannotUnwrap):
            await root.rewrap(other, ref, text)


async def test_the_shared_root_rotates_without_a_tenant(root: Root) -> None:
    before = await root.versions("", SHARED)
    assert await root.rotate("", SHARED) == before.latest + 1
    await root.retire("", SHARED, before.latest)


@pytest.mark.parametrize("ref", REFS[1:], ids=str)
async def test_a_destroyed_root_is_gone_with_all_it_wrapped(root: Root, ref: RootRef) -> None:
    tenant = new_tenant()
    await root.create(tenant, ref)
    await root.create(tenant, RootRef(Custody.OWN, "ffffffff"))
    wrapped = await root.wrap(tenant, ref, secrets.token_bytes(32))
    await asyncio.gather(root.destroy(tenant, ref), root.destroy(tenant, ref))
    await root.destroy(tenant, ref)
    with pytest.raises(UnknownTenant):
        await root.unwrap(tenant, ref, wrapped)
    for ask in (root.rotate, root.versions):
        with pytest.raises(UnknownTenant):
            await ask(tenant, ref)
    with pytest.raises(UnknownTenant):
        await root.retire(tenant, ref, 1)
    await root.wrap(tenant, RootRef(Custody.OWN, "ffffffff"), secrets.token_bytes(32))
    await root.create(tenant, ref)  # another key, of the same name
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, ref, wrapped)


async def test_a_held_root_is_its_owners_to_change(root: Root) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, HELD)
    wrapped = await root.wrap(tenant, HELD, kek)
    with pytest.raises(WrongState, match="owner"):
        await root.rotate(tenant, HELD)
    with pytest.raises(WrongState, match="owner"):
        await root.retire(tenant, HELD, 1)
    with pytest.raises(WrongState, match="owner"):
        await root.destroy(tenant, HELD)
    found = await root.versions(tenant, HELD)
    assert found.minimum <= _version(wrapped) == found.latest
    assert await root.unwrap(tenant, HELD, await root.rewrap(tenant, HELD, wrapped)) == kek


async def test_a_held_root_that_is_not_configured_is_unavailable(root: Root) -> None:
    stranger = RootRef(Custody.HELD, "somebody-else")
    with pytest.raises(Unavailable, match="somebody-else is configured"):
        await root.create(new_tenant(), stranger)
    with pytest.raises(Unavailable, match="somebody-else is configured"):
        await root.unwrap(new_tenant(), stranger, "vault:v1:AAAA")


async def test_the_shared_root_is_never_destroyed(root: Root) -> None:
    tenant = new_tenant()
    wrapped = await root.wrap(tenant, SHARED, bytes(32))
    with pytest.raises(WrongState):
        await root.destroy(tenant, SHARED)
    assert await root.unwrap(tenant, SHARED, wrapped) == bytes(32)


def _version(wrapped: str) -> int:
    return KekVersion("k", wrapped, 0, KekState.CURRENT).root_version


async def test_many_at_once(root: Root) -> None:
    tenant, keks = new_tenant(), [secrets.token_bytes(32) for _ in range(32)]
    wrapped = await asyncio.gather(*(root.wrap(tenant, SHARED, kek) for kek in keks))
    opened = await asyncio.gather(*(root.unwrap(tenant, SHARED, text) for text in wrapped))
    assert opened == keks


async def test_status_is_healthy_and_close_repeatable(root: Root) -> None:
    status = await root.status()
    assert status.healthy
    assert root.kind in status.detail
    await root.close()
    await root.close()
