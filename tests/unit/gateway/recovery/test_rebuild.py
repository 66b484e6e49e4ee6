"""A lost catalog comes back from one backup alone, and from no more than can be believed."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.attachments.tenants import Tenants
from gateway.attachments.tokens import Tokens
from gateway.duties.purger import Purger
from gateway.errors import CatalogConflict, NotFound, StoreUnavailable
from gateway.model import Precondition, ReplicaState, Right, Upload, now
from gateway.ports import Recovery, RunState, Settled
from gateway.recovery.rebuild import UNKNOWN
from gateway.targets.quorum import Role, Target
from keyservice.wire import Unavailable
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART
from tests.unit.gateway.recovery.conftest import LEASE, Site, content


class Dying:
    """A recovery that does not survive the n-th of its additions."""

    def __init__(self, recovery: Recovery, additions: int) -> None:
        self._recovery = recovery
        self._left = additions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recovery, name)

    async def add(self, *arguments: Any) -> Mapping[str, str]:
        self._left -= 1
        if not self._left:
            raise asyncio.CancelledError
        return await self._recovery.add(*arguments)


async def test_everything_comes_back_from_one_backup(site: Site) -> None:
    bench = site.bench
    sizes = {f"r/{n}": size for n, size in enumerate((0, 10, 1024, 1025, PART, 3 * PART))}
    for reference, size in sizes.items():
        await bench.store(content(size, 1), reference)
    await bench.store(content(77, 2), "r/1")
    before = await bench.catalog.list(bench.tenant, "", None, 99)

    catalog, report = await site.rebuilt()

    assert report.clean
    assert (report.envelopes, report.added, len(report.tenants)) == (7, 7, 1)
    assert report.settled == Settled(7, 6, 0)
    assert report.unknown == UNKNOWN
    after = await catalog.list(bench.tenant, "", None, 99)
    assert [each.version for each in after] == [each.version for each in before]
    assert {tuple(each.replicas) for each in after} == {("east",)}
    for reference, size in sizes.items():
        expected = content(77, 2) if reference == "r/1" else content(size, 1)
        assert await bench.read(reference) == expected
    versions = await catalog.versions(bench.tenant, "r/1")
    assert [each.version.size for each in versions] == [77, 10]


async def test_a_business_tenant_is_one_again(site: Site) -> None:
    made = await Tenants(site.bench.catalog, site.bench.keys).create(tier="business")
    site.bench.tenant = made.id
    await site.bench.store(b"content")
    catalog, _ = await site.rebuilt()
    assert (await catalog.tenant(made.id)).tier == "business"


async def test_a_catalog_that_is_in_use_is_left_alone(site: Site) -> None:
    await site.bench.store(b"one")
    rebuild = site.rebuild(site.bench.catalog)
    with pytest.raises(CatalogConflict, match="--merge"):
        await rebuild.run(site.east)
    assert site.runs.rows[-1].state is RunState.FAILED

    report = await rebuild.run(site.east, merge=True)
    assert (report.known, report.added) == (1, 0)


async def test_merge_adds_what_is_missing_and_no_more(site: Site) -> None:
    bench = site.bench
    await bench.store(b"first", "a")
    lost = bench.catalog
    bench.catalog = await site.new_catalog()
    await bench.catalog.add_tenant(await lost.tenant(bench.tenant))
    await bench.store(b"second", "a")
    await bench.store(b"only here", "b")

    report = await site.rebuild(bench.catalog).run(site.east, merge=True)

    assert (report.known, report.added, report.settled) == (2, 1, Settled(1, 1, 1))
    assert await bench.read("a") == b"second"
    assert await bench.read("b") == b"only here"


async def test_merge_brings_nothing_back_that_was_purged_while_it_was_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = site.bench
    version = (await bench.store(b"content")).version
    lost, bench.catalog = bench.catalog, await site.new_catalog()
    await bench.catalog.add_tenant(await lost.tenant(bench.tenant))
    await bench.catalog.begin(
        Upload(version.id, bench.tenant, version.attachment, version.blob, now(), now()), "report"
    )
    unwrap = bench.keys.unwrap

    async def late(*arguments: Any, **options: Any) -> Any:
        stored = {target.name: ReplicaState.STORED for target in bench.targets}
        await bench.catalog.commit(version, stored, Precondition(), None)
        await bench.catalog.trash(bench.tenant, "report", Precondition())
        await bench.catalog.bin.doom_now(bench.tenant, version.attachment)
        purger = Purger(bench.catalog.bin, bench.catalog.wraps, bench.targets)
        assert (await purger.run()).gone == 1
        return await unwrap(*arguments, **options)

    monkeypatch.setattr(bench.keys, "unwrap", late)
    report = await site.rebuild(bench.catalog).run(site.east, merge=True)

    assert (report.added, report.refused) == (0, {"purged": 1})
    assert await bench.catalog.list(bench.tenant, "", None, 9) == []


async def test_what_was_deleted_is_back_unless_it_was_replaced(site: Site) -> None:
    bench = site.bench
    await bench.store(b"old", "a")
    await bench.catalog.trash(bench.tenant, "a", Precondition())
    await bench.store(b"new", "a")
    await bench.store(b"deleted", "b")
    await bench.catalog.trash(bench.tenant, "b", Precondition())

    _, report = await site.rebuilt()

    assert report.settled.superseded == 1
    assert await bench.read("a") == b"new"
    assert await bench.read("b") == b"deleted"
    assert "trash" in report.unknown


async def test_a_copy_of_the_catalog_gives_trash_and_tokens(site: Site) -> None:
    bench = site.bench
    await bench.store(b"deleted", "b")
    await bench.catalog.trash(bench.tenant, "b", Precondition())
    await bench.store(b"kept", "c")
    grant = await Tokens(bench.catalog).create(bench.tenant, [Right.READ], lifetime=None)
    await site.backups().make()
    await bench.store(b"later", "d")
    await bench.store(b"replaced later", "c")

    catalog, report = await site.rebuilt()

    assert report.backup is not None
    assert (report.known, report.added) == (2, 2)
    assert (await Tokens(catalog).check(grant.text)).tenant == bench.tenant
    with pytest.raises(NotFound):
        await bench.read("b")
    assert await bench.read("c") == b"replaced later"
    assert await bench.read("d") == b"later"
    assert "tokens" not in report.unknown


async def test_what_was_purged_before_the_copy_stays_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = site.bench
    monkeypatch.setattr("gateway.recovery.rebuild.SKEW", timedelta())
    gone = await bench.store(b"purged", "a")
    stored = await site.envelope(gone.version.blob)
    lost = bench.catalog
    bench.catalog = await site.new_catalog()  # which knows nothing of it, as after a purge
    await bench.catalog.add_tenant(await lost.tenant(bench.tenant))
    await site.backups().make()
    await bench.store(b"later", "b")
    assert await site.envelope(gone.version.blob) == stored  # brought back behind our back

    catalog, report = await site.rebuilt()

    assert (report.older, report.added, report.clean) == (1, 1, False)
    assert [f.attachment.reference for f in await catalog.list(bench.tenant, "", None, 9)] == ["b"]


async def test_a_look_changes_nothing(site: Site) -> None:
    await site.bench.store(b"one")
    await site.backups().make()
    catalog = await site.new_catalog()
    report = await site.rebuild(catalog).look(site.east)
    assert (report.envelopes, report.added) == (1, 1)
    assert report.backup is not None
    assert await catalog.tenants(None, 9) == []
    assert site.runs.rows == []


async def test_tenants_whose_keys_cannot_be_had_are_named(site: Site) -> None:
    bench = site.bench
    held = bench.tenant
    await bench.store(b"suspended")
    bench.tenant = (await Tenants(bench.catalog, bench.keys).create()).id
    await bench.store(b"readable")
    bench.keys.states[held] = "suspended"

    catalog, report = await site.rebuilt()

    assert report.locked == {held: "suspended"}
    assert report.refused == {"suspended": 1}
    assert [t.id for t in await catalog.tenants(None, 9)] == [bench.tenant]
    bench.keys.states.clear()
    again = await site.rebuild(catalog).run(site.east, merge=True)
    assert (again.known, again.added) == (1, 1)


async def test_a_key_service_that_is_away_is_no_reason_to_go_on_without(
    site: Site,
) -> None:
    await site.bench.store(b"one")
    catalog = await site.new_catalog()
    site.bench.keys.down = True
    with pytest.raises(Unavailable):
        await site.rebuild(catalog).run(site.east)
    site.bench.keys.down = False
    assert (await site.rebuild(catalog).run(site.east)).added == 1


async def test_a_rebuild_that_died_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = site.bench
    monkeypatch.setattr("gateway.recovery.envelopes.BATCH", 2)
    for number in range(3):
        await bench.store(b"before", f"a{number}")
    await site.backups().make()
    for number in range(9):
        await bench.store(b"after", f"b{number}")
    catalog = await site.new_catalog()
    for writes in range(1, 12):
        dying = site.rebuild(catalog)
        monkeypatch.setattr(dying, "_recovery", Dying(catalog.recovery, writes))
        try:
            report = await dying.run(site.east)
        except asyncio.CancelledError:
            assert len(await catalog.list(bench.tenant, "", None, 99)) == 3
        else:
            break
    assert report.backup is not None
    assert len(await catalog.list(bench.tenant, "", None, 99)) == 12
    assert site.runs.rows[-1].state is RunState.DONE


async def test_two_at_once_are_one_too_many(site: Site) -> None:
    await site.runs.claim("rebuild", "east", holder="x", every=LEASE, lease=LEASE)
    site.runs.rows[0] = replace(site.runs.rows[0], touched=now() + timedelta(hours=1))
    with pytest.raises(CatalogConflict, match="somebody else"):
        await site.rebuild(await site.new_catalog()).run(site.east)


async def test_a_store_that_fails_leaves_nothing_readable(site: Site) -> None:
    await site.bench.store(b"one")
    await site.bench.store(b"two", "other")
    catalog = await site.new_catalog()
    broken = FaultyStore()
    broken._objects = site.bench.east._objects
    failing = Target("east", Role.BACKUP, broken)
    broken.read_fault = StoreUnavailable("gone")
    broken.read_limit = 10
    with pytest.raises(StoreUnavailable):
        await site.rebuild(catalog).run(failing)
    assert await catalog.list(site.bench.tenant, "", None, 9) == []
    assert (await site.rebuild(catalog).run(site.east)).settled.versions == 2
