"""Tenants whose keys are to be destroyed or are, on both databases, and what becomes of what they have."""

from datetime import timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import NotFound
from gateway.model import Retention, Tenant, new_id
from gateway.ports import Shred
from tests.contracts.catalog.samples import ANY, START, FakeClock, Time, new_upload, put

DAY = timedelta(days=1)


async def _tenants(catalog: SqlCatalog, count: int) -> list[str]:
    tenants = sorted(new_id() for _ in range(count))
    for tenant in tenants:
        await catalog.add_tenant(Tenant(tenant, "standard", START))
    return tenants


async def test_orders_are_found_when_they_are_due(catalog: SqlCatalog) -> None:
    first, second, third, _ = await _tenants(catalog, 4)
    assert await catalog.shreds.shred(first) == Shred()
    for tenant, days in ((first, 3), (second, 1), (third, 2)):
        await catalog.shreds.order(tenant, START + days * DAY)
    assert await catalog.shreds.due(START) == []
    assert await catalog.shreds.due(START + 2 * DAY) == [second, third]
    assert await catalog.shreds.due(START + 3 * DAY, limit=1) == [first]
    assert await catalog.shreds.due(START + 3 * DAY, after=second) == [third]
    await catalog.shreds.order(second, None)
    assert await catalog.shreds.bury([third]) == 1
    assert await catalog.shreds.due(START + 3 * DAY) == [first]


async def test_the_dead_stay_dead_and_strangers_are_passed_over(
    catalog: SqlCatalog, clock: FakeClock
) -> None:
    first, second = await _tenants(catalog, 2)
    assert await catalog.shreds.bury([first, new_id()]) == 1
    died = await catalog.shreds.shred(first)
    assert died.dead is not None
    clock.now += DAY
    assert await catalog.shreds.bury([second, first]) == 1
    assert await catalog.shreds.shred(first) == died
    with pytest.raises(NotFound):
        await catalog.shreds.shred(new_id())
    with pytest.raises(NotFound):
        await catalog.shreds.order(new_id(), START)


async def test_a_hold_holds_until_both_clocks_say_that_it_is_over(
    catalog: SqlCatalog, clock: FakeClock, time: Time
) -> None:
    (tenant,) = await _tenants(catalog, 1)
    assert await catalog.shreds.held(tenant) is None
    ends = clock.now + DAY
    await catalog.bin.retain(tenant, Retention(hold=ends))
    assert await catalog.shreds.held(tenant) == ends
    time.jumps(2 * DAY)  # a clock that is ahead
    assert await catalog.shreds.held(tenant) == ends
    await time.counts(2 * DAY)
    assert await catalog.shreds.held(tenant) is None
    with pytest.raises(NotFound):
        await catalog.shreds.held(new_id())


async def test_all_that_a_dead_tenant_has_is_due_to_go(catalog: SqlCatalog) -> None:
    dead, living = await _tenants(catalog, 2)
    going = [await put(catalog, dead, name) for name in ("a", "a", "b", "c")]
    staying = await put(catalog, living, "a")
    await catalog.trash(dead, "c", ANY)
    await catalog.begin(new_upload(dead), "d")
    await catalog.bin.retain(dead, Retention(trash=3650 * DAY))
    await catalog.shreds.bury([dead])
    doomed = 0
    while begun := await catalog.bin.doom(2):
        assert begun <= 2
        doomed += begun
    assert doomed == len(going)
    for version in going:
        with pytest.raises(NotFound):
            await catalog.by_version(dead, version.id)
    assert await catalog.list(dead, "", None, 9) == []
    assert await catalog.bin.trashed(dead) == []
    assert (await catalog.find(living, "a")).version.id == staying.id
    for each in await catalog.bin.doomed(9):
        for target in each.targets:
            await catalog.bin.gone(each.version.id, target)
        assert await catalog.bin.purge(each.version.id)
    assert await catalog.known([version.blob for version in going]) == frozenset()


async def test_a_hold_keeps_what_a_dead_tenant_has(catalog: SqlCatalog, clock: FakeClock) -> None:
    (dead,) = await _tenants(catalog, 1)
    await put(catalog, dead, "a")
    await catalog.bin.retain(dead, Retention(hold=clock.now + DAY))
    await catalog.shreds.bury([dead])
    assert await catalog.bin.doom(9) == 0
    await catalog.bin.retain(dead, Retention())
    assert await catalog.bin.doom(9) == 1


async def test_a_hold_keeps_an_order_from_being_due(catalog: SqlCatalog, clock: FakeClock) -> None:
    held, free = await _tenants(catalog, 2)
    for tenant in (held, free):
        await catalog.shreds.order(tenant, clock.now)
    await catalog.bin.retain(held, Retention(hold=clock.now + DAY))  # after it was ordered
    assert await catalog.shreds.due(clock.now + 9 * DAY) == [free]
    clock.now += 9 * DAY  # a clock that jumps ends no hold
    assert await catalog.shreds.due(clock.now) == [free]
    await catalog.bin.retain(held, Retention())
    assert await catalog.shreds.due(clock.now) == [held, free]
