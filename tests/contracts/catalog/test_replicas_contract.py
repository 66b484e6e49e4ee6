"""What the catalog knows of copies, and who may mend them, on both databases."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Tenant, Version, new_id
from gateway.ports import Finding, Gap, Lag
from tests.contracts.catalog.samples import (
    ANY,
    START,
    FakeClock,
    at,
    new_upload,
    put,
    version_of,
)
from tests.service.http.eventually import eventually

LEASE = timedelta(seconds=60)
HOUR = timedelta(hours=1)
DAMAGED, DELETING = ReplicaState.DAMAGED, ReplicaState.DELETING
GONE, WHOLE = ReplicaState.MISSING, ReplicaState.STORED


async def _claim(
    catalog: SqlCatalog,
    *targets: str,
    limit: int = 99,
    newest: bool = True,
    lease: timedelta = LEASE,
    tenant: str | None = None,
) -> Sequence[Gap]:
    wanted = targets or ("backup",)
    return await catalog.replicas.claim(
        wanted, lease=lease, limit=limit, newest=newest, tenant=tenant
    )


async def _several(catalog: SqlCatalog, tenant: str, count: int) -> list[Version]:
    return [await put(catalog, tenant, f"{n}", started=at(n)) for n in range(count)]


async def _states(catalog: SqlCatalog, version: Version) -> dict[str, ReplicaState]:
    return dict((await catalog.by_version(version.tenant, version.id)).replicas)


async def test_a_gap_says_what_is_missing_and_where_it_is(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    clock.now = at(5)
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    version = replace(version, body_size=0, inline=b"sealed")
    replicas = {"east": WHOLE, "west": WHOLE, "backup": GONE}
    await catalog.commit(version, replicas, ANY, None)
    clock.now = at(9)
    (gap,) = await _claim(catalog)
    good = frozenset({"east", "west"})
    assert gap == Gap(version, "backup", GONE, at(5), 0, good, at(9) + LEASE)
    assert gap.version.inline == b"sealed"


async def test_a_gap_says_what_was_found(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    await catalog.replicas.report([Finding(version.id, "primary", DAMAGED, "unopened")])
    (gap,) = await _claim(catalog, "primary")
    assert (gap.state, gap.reason) == (DAMAGED, "unopened")


async def test_a_gap_that_nothing_can_fill_is_claimed_too(catalog: SqlCatalog, tenant: str) -> None:
    await put(catalog, tenant, "a", replicas={"backup": GONE, "east": DAMAGED})
    (gap,) = await _claim(catalog)
    assert gap.good == frozenset()


@pytest.mark.parametrize("newest", [True, False])
async def test_gaps_come_in_order_of_age(catalog: SqlCatalog, tenant: str, newest: bool) -> None:  # noqa: FBT001
    versions = await _several(catalog, tenant, 5)
    expected = [v.id for v in (reversed(versions) if newest else versions)]
    first = await _claim(catalog, limit=2, newest=newest)
    rest = await _claim(catalog, newest=newest)
    assert [gap.version.id for gap in [*first, *rest]] == expected
    assert len(first) == 2


async def test_order_goes_across_targets(catalog: SqlCatalog, tenant: str) -> None:
    both = {"east": GONE, "west": DAMAGED}
    old = await put(catalog, tenant, "a", started=at(1), replicas=both)
    new = await put(catalog, tenant, "b", started=at(2), replicas=both)
    gaps = await _claim(catalog, "east", "west", "none", limit=3)
    assert [gap.version.id for gap in gaps] == [new.id, new.id, old.id]
    assert len(await _claim(catalog, "east", "west")) == 1  # the fourth was not leased by the way


async def test_gaps_of_one_tenant(catalog: SqlCatalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    await put(catalog, tenant, "a")
    theirs = await put(catalog, other.id, "a")
    assert [gap.version for gap in await _claim(catalog, tenant=other.id)] == [theirs]
    assert await _claim(catalog, tenant=new_id()) == []


async def test_nothing_to_claim(catalog: SqlCatalog, tenant: str) -> None:
    await put(catalog, tenant, "a", replicas={"east": WHOLE})
    assert await _claim(catalog, "east") == []
    assert await catalog.replicas.claim([], lease=LEASE, limit=9, newest=True) == []
    assert await catalog.replicas.extend([], LEASE) == []
    await catalog.replicas.release([])


async def test_no_two_claims_share_a_gap(several: list[SqlCatalog], tenant: str) -> None:
    versions = await _several(several[0], tenant, 30)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_claim(each, limit=2, newest=n % 2 == 0))
            for n in range(6)
            for each in several
        ]
    claimed = [gap.version.id for task in tasks for gap in task.result()]
    assert len(claimed) == len(set(claimed))
    # A claim that met another's rows may have come back with less; what it left is claimed now.
    claimed += [gap.version.id for gap in await _claim(several[0])]
    assert sorted(claimed) == sorted(version.id for version in versions)


async def test_a_lease_that_ends_goes_to_another(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    clock.now = at(59)
    assert await _claim(catalog) == []
    (kept,) = await catalog.replicas.extend([gap], LEASE)
    assert kept == replace(gap, until=at(59) + LEASE)
    clock.now = at(118)
    assert await _claim(catalog) == []
    clock.now = at(119)
    (theirs,) = await _claim(catalog)
    assert theirs.until > kept.until
    assert await catalog.replicas.extend([kept], LEASE) == []
    assert not await catalog.replicas.filled(kept, kept.version.kek)
    assert not await catalog.replicas.failed(kept, HOUR)
    await catalog.replicas.release([kept])
    assert await _claim(catalog) == []  # neither took it from its new holder
    assert await catalog.replicas.filled(theirs, theirs.version.kek)


async def test_an_overdue_lease_that_nobody_took_is_still_good(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    clock.now = at(600)
    (kept,) = await catalog.replicas.extend([gap], LEASE)
    # The moment of its end is what tells holders apart.
    assert not await catalog.replicas.filled(gap, gap.version.kek)
    assert await catalog.replicas.filled(kept, kept.version.kek)
    assert await _states(catalog, version) == {"primary": WHOLE, "backup": WHOLE}


async def test_filled_counts_once(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    version = await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    clock.now = at(7)
    assert await catalog.replicas.filled(gap, gap.version.kek)
    assert not await catalog.replicas.filled(gap, gap.version.kek)
    (held,) = await catalog.replicas.held("backup")
    assert (held.version.id, held.state, held.checked) == (version.id, WHOLE, at(7))
    assert await _claim(catalog) == []


async def test_what_failed_waits(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    assert await catalog.replicas.failed(gap, HOUR)
    assert not await catalog.replicas.failed(gap, HOUR)  # the first answer may have been lost
    clock.now = START + HOUR - timedelta(seconds=1)
    assert await _claim(catalog) == []
    clock.now = START + HOUR
    (again,) = await _claim(catalog)
    assert (again.tries, again.since) == (1, gap.since)
    (lag,) = await catalog.replicas.lag(["backup"])
    assert (lag.objects, lag.failing) == (1, 1)


async def test_what_was_released_is_due_at_once(catalog: SqlCatalog, tenant: str) -> None:
    await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    await catalog.replicas.release([gap])
    (again,) = await _claim(catalog)
    assert again.tries == 0


async def test_a_clock_that_went_back_frees_what_it_leased(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    await put(catalog, tenant, "a")
    clock.now = START + 24 * HOUR
    (gap,) = await _claim(catalog)
    await catalog.replicas.failed(gap, HOUR)
    clock.now = at(10)  # it was wrong by a day
    (gap,) = await _claim(catalog)
    assert gap.until > at(10)
    clock.now = at(-20)  # a little is no reason to take it from its holder
    assert await _claim(catalog) == []
    assert await catalog.replicas.filled(gap, gap.version.kek)


async def test_a_clock_that_goes_forward_ends_a_lease_and_no_more(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    await put(catalog, tenant, "a")
    (first,) = await _claim(catalog)
    clock.now = START + 24 * HOUR
    (second,) = await _claim(catalog)
    assert not await catalog.replicas.filled(first, first.version.kek)
    assert await catalog.replicas.filled(second, second.version.kek)


async def test_findings(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    version = await put(catalog, tenant, "a", replicas={"east": WHOLE, "west": WHOLE})
    clock.now = at(3)
    flipped = Finding(version.id, "east", DAMAGED, "flipped")
    seen = [flipped, Finding(version.id, "west", WHOLE), Finding(version.id, "none", GONE)]
    assert await catalog.replicas.report([*seen, Finding(new_id(), "east", GONE)]) == 1
    assert await catalog.replicas.report(seen) == 0
    assert await catalog.replicas.report([]) == 0
    assert await _states(catalog, version) == {"east": DAMAGED, "west": WHOLE}
    (west,) = await catalog.replicas.held("west")
    assert west.checked == at(3)
    (gap,) = await _claim(catalog, "east")
    assert (gap.state, gap.since, gap.tries, gap.good) == (DAMAGED, at(3), 0, frozenset({"west"}))
    lag = Lag("east", 1, version.body_size, at(3), 0)
    assert await catalog.replicas.lag(["east"]) == [lag]


async def test_a_gap_that_turns_out_whole(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    assert await catalog.replicas.report([Finding(version.id, "backup", WHOLE)]) == 1
    assert not await catalog.replicas.filled(gap, gap.version.kek)
    assert await _states(catalog, version) == {"primary": WHOLE, "backup": WHOLE}


async def test_a_gap_that_changes_its_kind_keeps_its_holder(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    assert await catalog.replicas.report([Finding(version.id, "backup", DAMAGED, "short")]) == 1
    assert await _claim(catalog) == []
    await catalog.replicas.release([gap])
    (again,) = await _claim(catalog)
    assert (again.state, again.since) == (DAMAGED, gap.since)


async def test_the_last_of_several_findings_counts(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    first, last = Finding(version.id, "primary", GONE), Finding(version.id, "primary", WHOLE)
    assert await catalog.replicas.report([first, last]) == 0


async def test_nothing_is_found_of_what_is_being_deleted(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    (gap,) = await _claim(catalog)
    await catalog.trash(tenant, "a", ANY)
    assert await catalog.bin.doom_now(tenant, version.attachment) == 1
    for state in ReplicaState:
        assert await catalog.replicas.report([Finding(version.id, "primary", state)]) == 0
    assert not await catalog.replicas.filled(gap, gap.version.kek)
    assert await catalog.replicas.extend([gap], LEASE) == []
    assert await _claim(catalog, "backup", "primary") == []
    assert await catalog.replicas.held("primary") == []
    assert await catalog.replicas.unchecked("primary", 9) == []
    assert await catalog.replicas.adopt("new", 9) == 0
    (lag,) = await catalog.replicas.lag(["new"])
    assert lag.objects == 0
    assert await catalog.replicas.owners([version.blob]) == {version.blob: version.id}


async def test_nobody_marks_a_replica_for_deletion_by_finding(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    assert await catalog.replicas.report([Finding(version.id, "primary", DELETING)]) == 0
    assert await _states(catalog, version) == {"primary": WHOLE, "backup": GONE}


async def test_lag_of_several(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    await _several(catalog, tenant, 2)
    clock.now = at(50)
    late = await put(catalog, tenant, "late", started=at(40))
    size = 3 * late.body_size
    assert await catalog.replicas.lag(["primary", "backup"]) == [
        Lag("primary", 0, 0, None, 0),
        Lag("backup", 3, size, START, 0),
    ]
    assert await catalog.replicas.lag([]) == []


async def test_held_by_page(catalog: SqlCatalog, tenant: str) -> None:
    versions = sorted(await _several(catalog, tenant, 4), key=lambda version: version.id)
    await catalog.trash(tenant, "0", ANY)
    everything = await catalog.replicas.held("backup")
    assert [held.version for held in everything] == versions
    assert {(held.state, held.checked) for held in everything} == {(GONE, None)}
    page = await catalog.replicas.held("none", after=versions[0].id, limit=2)
    assert [(held.version, held.state) for held in page] == [(v, None) for v in versions[1:3]]
    (one,) = await catalog.replicas.held("backup", attachment=versions[2].attachment)
    assert one.version == versions[2]
    assert len(await catalog.replicas.held("backup", tenant=tenant)) == 4
    assert await catalog.replicas.held("backup", tenant=new_id()) == []


async def test_what_was_checked_longest_ago_comes_first(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    versions = await _several(catalog, tenant, 4)
    for second, number in ((20, 2), (10, 1), (30, 0)):
        clock.now = at(second)
        await catalog.replicas.report([Finding(versions[number].id, "primary", WHOLE)])
    unchecked = await catalog.replicas.unchecked("primary", 3)
    assert [held.version for held in unchecked] == [versions[n] for n in (3, 1, 2)]
    assert [held.checked for held in unchecked] == [None, at(10), at(20)]
    verified = await catalog.replicas.unchecked("primary", 9, again=True)
    assert [held.checked for held in verified] == [at(10), at(20), at(30)]
    assert await catalog.replicas.unchecked("backup", 9) == []


async def test_one_version_and_owners(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    assert await catalog.replicas.version(version.id) == version
    assert await catalog.replicas.version(new_id()) is None
    blobs = [version.blob, *(new_id() for _ in range(2000))]
    assert await catalog.replicas.owners(blobs) == {version.blob: version.id}
    assert await catalog.replicas.owners([]) == {}


async def test_a_claim_whose_answer_was_lost_costs_one_lease(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    versions, random = await _several(catalog, tenant, 12), Random(5)
    every = {version.id for version in versions}
    for _ in versions:
        call = asyncio.ensure_future(_claim(catalog, limit=1))
        await asyncio.sleep(random.uniform(0, 0.004))
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
    clock.now = START + LEASE
    gaps: dict[str, Gap] = {}

    async def claimed() -> bool:  # the server may still be undoing what was cancelled
        gaps.update((gap.version.id, gap) for gap in await _claim(catalog))
        return gaps.keys() == every

    await eventually(claimed)
    for gap in gaps.values():
        call_filled = asyncio.ensure_future(catalog.replicas.filled(gap, gap.version.kek))
        await asyncio.sleep(random.uniform(0, 0.004))
        call_filled.cancel()
        with suppress(asyncio.CancelledError):
            await call_filled
    clock.now = START + 2 * LEASE
    left: set[str] = set()

    async def filled_or_left() -> bool:
        left.update(gap.version.id for gap in await _claim(catalog))
        states = {version.id: await _states(catalog, version) for version in versions}
        whole = {each for each, state in states.items() if state["backup"] is WHOLE}
        assert not whole & left
        return whole | left == every

    await eventually(filled_or_left)
