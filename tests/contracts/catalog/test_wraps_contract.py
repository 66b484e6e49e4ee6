"""Which KEK envelopes are under, on both databases: compare and set, stale copies, leases, uses."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import NotFound
from gateway.model import ReplicaState, Tenant, Version, new_id
from gateway.ports import Backlog, Finding, KekUse, Rewrapped, Rotation, Stale
from tests.contracts.catalog.samples import (
    ANY,
    START,
    FakeClock,
    kek_of,
)
from tests.contracts.catalog.samples import put as put_on

LEASE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BOTH = {"primary": ReplicaState.STORED, "backup": ReplicaState.STORED}
LACKING = {"primary": ReplicaState.STORED, "backup": ReplicaState.MISSING}


async def put(
    catalog: SqlCatalog,
    tenant: str,
    reference: str,
    replicas: Mapping[str, ReplicaState] = BOTH,
) -> Version:
    """Commit a version that is stored on two targets, or as told."""
    return await put_on(catalog, tenant, reference, replicas=replicas)


def change(version: Version, new: int = 2) -> Rewrapped:
    """Return a rewrap of a version to a KEK with another number."""
    kek = kek_of(version.tenant, new)
    return Rewrapped(version.id, version.blob, version.kek, kek, b"envelope %d" % new)


async def claim(catalog: SqlCatalog, *targets: str, tenant: str | None = None) -> list[Stale]:
    """Claim every stale copy on these targets."""
    found = await catalog.wraps.claim_stale(
        tenant=tenant, targets=targets or ("primary", "backup"), lease=LEASE, limit=100
    )
    return list(found)


async def uses(catalog: SqlCatalog, tenant: str) -> dict[int, KekUse]:
    """Return what uses a tenant's KEKs, by their number."""
    numbered = {kek_of(tenant, number): number for number in range(1, 9)}
    return {numbered[use.kek]: use for use in await catalog.wraps.uses(tenant)}


async def test_a_version_keeps_its_kek(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    assert version.kek == kek_of(tenant)
    assert (await catalog.find(tenant, "a")).version == version
    assert await catalog.replicas.version(version.id) == version
    assert [found.version.kek for found in await catalog.versions(tenant, "a")] == [version.kek]


async def test_versions_on_a_kek_come_in_pages(catalog: SqlCatalog, tenant: str) -> None:
    made = [await put(catalog, tenant, str(number)) for number in range(5)]
    await catalog.trash(tenant, "3", ANY)
    ids = sorted(version.id for version in made)
    first = await catalog.wraps.on_kek(kek_of(tenant), limit=3)
    rest = await catalog.wraps.on_kek(kek_of(tenant), after=first[-1].version.id, limit=3)
    assert [each.version.id for each in (*first, *rest)] == ids
    assert {each.targets for each in first} == {frozenset({"primary", "backup"})}
    assert await catalog.wraps.on_kek(kek_of(tenant, 2)) == []
    older = await catalog.wraps.on_kek(kek_of(tenant), created_before=made[0].created)
    assert older == []
    of_one = await catalog.wraps.on_kek(kek_of(tenant), attachment=made[3].attachment)
    assert [each.version for each in of_one] == [made[3]]


async def test_a_rewrap_leaves_a_stale_row_for_every_copy(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    clock.now += timedelta(seconds=5)
    assert await catalog.wraps.rewrap([change(version)]) == {version.id}
    now = await catalog.replicas.version(version.id)
    assert now == replace(version, kek=kek_of(tenant, 2), envelope=b"envelope 2")
    found = await claim(catalog)
    assert {stale.target for stale in found} == {"primary", "backup"}
    assert {stale.version for stale in found} == {now}
    assert {stale.keks for stale in found} == {frozenset({version.kek})}
    assert {(stale.since, stale.tries) for stale in found} == {(clock.now, 0)}


async def test_a_rewrap_is_repeated_without_effect(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    other = await put(catalog, tenant, "b")
    assert await catalog.wraps.rewrap([]) == frozenset()
    await catalog.wraps.rewrap([change(version)])
    again = [change(version), change(other), Rewrapped(new_id(), new_id(), "k", "l", b"")]
    assert await catalog.wraps.rewrap(again) == {other.id}


async def test_two_tools_never_both_change_one(several: list[SqlCatalog], tenant: str) -> None:
    made = [await put(several[0], tenant, str(number)) for number in range(40)]
    tools = [[change(version, 2 + tool) for version in made] for tool in range(3)]
    tools[1].reverse()
    changed = await asyncio.gather(
        *(catalog.wraps.rewrap(changes) for catalog, changes in zip(several, tools, strict=True))
    )
    assert sum(len(each) for each in changed) == 40
    assert frozenset.union(*changed) == {version.id for version in made}
    for tool, ids in enumerate(changed):
        on = await several[0].wraps.on_kek(kek_of(tenant, 2 + tool))
        assert {each.version.id for each in on} == ids
        assert {each.version.envelope for each in on} <= {b"envelope %d" % (2 + tool)}


async def test_nobody_gets_a_stale_copy_that_another_has(
    several: list[SqlCatalog], tenant: str
) -> None:
    made = [await put(several[0], tenant, str(number)) for number in range(20)]
    await several[0].wraps.rewrap([change(version) for version in made])
    claimed = await asyncio.gather(*(claim(catalog) for catalog in several))
    keys = [(stale.version.id, stale.target) for each in claimed for stale in each]
    while more := await claim(several[0]):  # on PostgreSQL a claim passes what another has locked
        keys += [(stale.version.id, stale.target) for stale in more]
    assert len(keys) == len(set(keys)) == 40


async def test_a_pushed_copy_is_stale_no_more(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    for stale in await claim(catalog):
        assert await catalog.wraps.pushed(stale, kek_of(tenant, 2))
        assert not await catalog.wraps.pushed(stale, kek_of(tenant, 2))
    assert await uses(catalog, tenant) == {2: KekUse(kek_of(tenant, 2), versions=1)}


async def test_a_copy_pushed_before_the_next_rewrap_stays_stale(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (stale,) = await claim(catalog, "backup")
    await catalog.wraps.rewrap([change(stale.version, 3)])
    assert not await catalog.wraps.pushed(stale, kek_of(tenant, 2))
    (again,) = await claim(catalog, "backup")
    assert again.version.kek == kek_of(tenant, 3)
    assert again.keks == {kek_of(tenant, 1), kek_of(tenant, 2)}
    assert await catalog.wraps.pushed(again, kek_of(tenant, 3))


async def test_a_late_write_is_stale_itself(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (late,) = await claim(catalog, "backup")
    await catalog.wraps.rewrap([change(late.version, 3)])
    clock.now += timedelta(seconds=61)
    (stale,) = await claim(catalog, "backup")
    assert await catalog.wraps.pushed(stale, kek_of(tenant, 3))
    assert not await catalog.wraps.pushed(late, kek_of(tenant, 2))
    (again,) = await claim(catalog, "backup")
    assert again.keks == {kek_of(tenant, 2)}


async def test_a_lease_ends(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (first,) = await claim(catalog, "backup")
    assert await claim(catalog, "backup") == []
    clock.now += timedelta(seconds=61)
    (second,) = await claim(catalog, "backup")
    assert second.until > first.until
    assert not await catalog.wraps.pushed(first, kek_of(tenant, 2))
    await catalog.wraps.failed_push(first, HOUR)
    await catalog.wraps.release_stale([first])
    assert await claim(catalog, "backup") == []
    assert await catalog.wraps.pushed(second, kek_of(tenant, 2))


async def test_what_failed_waits(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (stale,) = await claim(catalog, "backup")
    await catalog.wraps.failed_push(stale, HOUR)
    clock.now += timedelta(seconds=3599)
    assert await claim(catalog, "backup") == []
    clock.now += timedelta(seconds=1)
    (stale,) = await claim(catalog, "backup")
    assert stale.tries == 1
    await catalog.wraps.release_stale([stale])
    (again,) = await claim(catalog, "backup")
    assert again.tries == 1


async def test_a_clock_that_goes_back_ends_leases_and_waits(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    made = [await put(catalog, tenant, str(number)) for number in range(2)]
    await catalog.wraps.rewrap([change(version) for version in made])
    leased, failed = await claim(catalog, "backup")
    await catalog.wraps.failed_push(failed, HOUR)
    clock.now += timedelta(seconds=-30)
    assert await claim(catalog, "backup") == []
    clock.now += timedelta(seconds=-3600)
    assert {stale.version.id for stale in await claim(catalog, "backup")} == {
        leased.version.id,
        failed.version.id,
    }


async def test_copies_of_one_tenant_are_claimed_apart(catalog: SqlCatalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    for each in (tenant, other.id):
        version = await put(catalog, each, "a")
        await catalog.wraps.rewrap([change(version)])
    (stale,) = await claim(catalog, "backup", tenant=other.id)
    assert stale.version.tenant == other.id
    (stale,) = await claim(catalog, "backup")
    assert stale.version.tenant == tenant


async def test_what_is_not_stored_waits_for_repair(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    made = [await put(catalog, tenant, str(n), LACKING) for n in range(3)]
    await catalog.wraps.rewrap([change(version) for version in made])
    assert await claim(catalog, "backup") == []
    clock.now += timedelta(seconds=5)
    gaps = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    assert await catalog.replicas.filled(gaps[0], gaps[0].version.kek)
    (stale,) = await claim(catalog, "backup")
    assert stale.version == gaps[0].version
    assert (await uses(catalog, tenant))[1].stale == {"primary": 3, "backup": 3}


async def test_a_repair_with_an_older_envelope_leaves_a_stale_row(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a", LACKING)
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    await catalog.wraps.rewrap([change(version)])
    assert await catalog.replicas.filled(gap, gap.version.kek)
    (stale,) = await claim(catalog, "backup")
    assert stale.keks == {version.kek}
    assert stale.version.kek == kek_of(tenant, 2)


async def test_a_repair_that_found_an_older_envelope_leaves_a_stale_row(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a", LACKING)
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    assert await catalog.replicas.filled(gap, kek_of(tenant, 7))
    (stale,) = await claim(catalog, "backup")
    assert stale.keks == {kek_of(tenant, 7)}
    assert stale.version == version


async def test_a_report_of_an_older_envelope_leaves_a_stale_row(
    catalog: SqlCatalog, tenant: str
) -> None:
    made = [await put(catalog, tenant, str(number)) for number in range(4)]
    keks = [made[0].kek, kek_of(tenant, 7), "", kek_of(tenant, 7)]
    blobs = ["", made[1].blob, "", new_id()]
    seen = [
        Finding(version.id, "backup", ReplicaState.STORED, "", blob, kek)
        for version, blob, kek in zip(made, blobs, keks, strict=True)
    ]
    await catalog.replicas.report(seen)
    (stale,) = await claim(catalog, "backup")
    assert stale.keks == {kek_of(tenant, 7)}
    assert stale.version == made[1]


async def test_a_report_of_another_blob_counts_for_nothing(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    lost = Finding(version.id, "backup", ReplicaState.MISSING, "absent", new_id())
    assert await catalog.replicas.report([lost]) == 0
    assert await catalog.replicas.report([replace(lost, blob=version.blob)]) == 1


async def test_a_report_that_a_copy_is_back_lets_it_be_written(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a", LACKING)
    await catalog.wraps.rewrap([change(version)])
    assert await claim(catalog, "backup") == []
    await catalog.replicas.report([Finding(version.id, "backup", ReplicaState.STORED)])
    assert len(await claim(catalog, "backup")) == 1


async def test_an_older_copy_that_somebody_saw_is_marked(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    assert not await catalog.wraps.mark_stale(version.id, "backup", version.kek)
    assert not await catalog.wraps.mark_stale(new_id(), "backup", "k0")
    for _ in range(2):
        assert await catalog.wraps.mark_stale(version.id, "backup", kek_of(tenant, 7))
        assert await catalog.wraps.mark_stale(version.id, "backup", kek_of(tenant, 8))
    (stale,) = await claim(catalog)
    assert stale.target == "backup"
    assert stale.keks == {kek_of(tenant, 7), kek_of(tenant, 8)}


async def test_uses_name_everything(catalog: SqlCatalog, tenant: str) -> None:
    assert await uses(catalog, tenant) == {}
    made = {name: await put(catalog, tenant, name) for name in "abcd"}
    await catalog.trash(tenant, "b", ANY)
    trashed = await catalog.trash(tenant, "c", ANY)
    await catalog.bin.doom_now(tenant, trashed.id)
    await catalog.wraps.rewrap([change(made[name]) for name in "abc"])
    assert await uses(catalog, tenant) == {
        1: KekUse(kek_of(tenant), 2, 1, {"primary": 2, "backup": 2}),
        2: KekUse(kek_of(tenant, 2), 2, 1),
    }


async def test_what_is_being_purged_is_left_alone(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    now = await catalog.replicas.version(version.id)
    assert now is not None
    attachment = await catalog.trash(tenant, "a", ANY)
    await catalog.bin.doom_now(tenant, attachment.id)
    assert await catalog.wraps.on_kek(now.kek) == []
    assert await catalog.wraps.rewrap([change(now, 3)]) == frozenset()
    assert await claim(catalog) == []
    assert not await catalog.wraps.mark_stale(version.id, "backup", kek_of(tenant, 7))
    assert (await uses(catalog, tenant))[1].stale == {"primary": 1, "backup": 1}
    for target in ("primary", "backup"):
        await catalog.bin.gone(version.id, target)
    assert list(await uses(catalog, tenant)) == [2]
    assert await catalog.bin.purge(version.id)
    assert await uses(catalog, tenant) == {}


async def test_a_schedule_is_kept(catalog: SqlCatalog, tenant: str) -> None:
    assert await catalog.wraps.schedule(tenant) == Rotation()
    rotation = Rotation(kek=timedelta(days=90))
    await catalog.wraps.set_schedule(tenant, rotation)
    assert await catalog.wraps.schedule(tenant) == rotation
    for call in (
        catalog.wraps.schedule(new_id()),
        catalog.wraps.set_schedule(new_id(), rotation),
    ):
        with pytest.raises(NotFound):
            await call


async def test_stale_copies_are_counted_by_target(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    first, second = [await put(catalog, tenant, str(number)) for number in range(2)]
    assert await catalog.wraps.backlog("backup") == Backlog("backup", 0, None)
    await catalog.wraps.rewrap([change(first)])
    began, clock.now = clock.now, clock.now + HOUR
    await catalog.wraps.rewrap([change(second)])
    assert await catalog.wraps.backlog("backup") == Backlog("backup", 2, began)
    (stale, *_) = await claim(catalog, "backup")
    assert await catalog.wraps.pushed(stale, stale.version.kek)
    assert (await catalog.wraps.backlog("backup")).copies == 1
    assert (await catalog.wraps.backlog("primary")).copies == 2


async def test_a_failed_write_may_have_come_true(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (late,) = await claim(catalog, "backup")
    await catalog.wraps.rewrap([change(late.version, 3)])
    clock.now += timedelta(seconds=61)
    (stale,) = await claim(catalog, "backup")
    assert await catalog.wraps.pushed(stale, kek_of(tenant, 3))
    await catalog.wraps.failed_push(late, HOUR)
    (again,) = await claim(catalog, "backup")
    assert (again.tries, *again.keks) == (0, kek_of(tenant, 2))
