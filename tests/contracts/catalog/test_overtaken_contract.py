"""Who writes an envelope after its replica was somebody else's is heard, on both databases."""

from dataclasses import replace

import pytest

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, new_id
from gateway.ports import Finding
from tests.contracts.catalog.samples import FakeClock, kek_of
from tests.contracts.catalog.test_wraps_contract import HOUR, LACKING, LEASE, change, claim, put


async def test_who_finds_an_older_copy_ends_the_lease_of_who_was_writing_it(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    """What was found may have been written behind them: only another write makes it sure."""
    version = await put(catalog, tenant, "a")
    await catalog.wraps.rewrap([change(version)])
    (stale,) = await claim(catalog, "backup")
    await catalog.wraps.mark_stale(version.id, "backup", version.kek)
    assert await claim(catalog, "backup") == []  # for as long as they may still be writing
    assert not await catalog.wraps.pushed(stale, stale.version.kek)
    clock.now += 2 * LEASE
    (again,) = await claim(catalog, "backup")
    assert again.keks == {version.kek}
    assert await catalog.wraps.pushed(again, again.version.kek)


@pytest.mark.parametrize("failed", [False, True])
async def test_a_repair_that_comes_too_late_tells_under_what_it_wrote(
    catalog: SqlCatalog, tenant: str, clock: FakeClock, *, failed: bool
) -> None:
    """Somebody found the replica whole meanwhile, and brought its envelope up to date."""
    version = await put(catalog, tenant, "a", LACKING)
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    await catalog.replicas.report([Finding(version.id, "backup", ReplicaState.STORED)])
    await catalog.wraps.rewrap([change(version)])
    (stale,) = await claim(catalog, "backup")
    assert await catalog.wraps.pushed(stale, stale.version.kek)
    if failed:  # its answer may have been lost
        await catalog.replicas.failed(gap, HOUR)
    else:
        assert not await catalog.replicas.filled(gap, gap.version.kek)
    clock.now += 2 * LEASE
    (late,) = await claim(catalog, "backup")
    assert late.keks == {version.kek}


async def test_a_late_repair_of_another_blob_says_nothing(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a", LACKING)
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    new = replace(version, blob=new_id(), kek=kek_of(tenant, 3), envelope=b"s")
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    there = dict.fromkeys(("primary", "backup"), ReplicaState.STORED)
    assert await catalog.wraps.switch(new, version.blob, there)
    assert not await catalog.replicas.filled(gap, gap.version.kek)
    assert await claim(catalog) == []


async def test_each_of_several_findings_is_told_by_itself(catalog: SqlCatalog, tenant: str) -> None:
    behind, back, cut = (
        await put(catalog, tenant, "behind"),
        await put(catalog, tenant, "back", LACKING),
        await put(catalog, tenant, "cut"),
    )
    older = kek_of(tenant, 8)
    found = [
        Finding(behind.id, "backup", ReplicaState.STORED, "", behind.blob, older),
        Finding(back.id, "backup", ReplicaState.STORED, "", back.blob, back.kek),
        Finding(cut.id, "backup", ReplicaState.DAMAGED, "flipped", cut.blob),
    ]
    assert await catalog.replicas.report(found) == 2
    (stale,) = await claim(catalog)
    assert (stale.version.id, stale.target, stale.keks) == (behind.id, "backup", frozenset([older]))
    gaps = await catalog.replicas.claim(["backup"], lease=LEASE, limit=9, newest=True)
    assert [(gap.version.id, gap.reason) for gap in gaps] == [(cut.id, "flipped")]
    holding = await catalog.replicas.holding("backup")
    assert (holding.objects, holding.unchecked) == (2, 0)
