"""The trash: what may come back, and what never goes before its time, on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import CatalogConflict, NotFound
from gateway.model import Retention, new_id
from gateway.ports import Trashed
from tests.contracts.catalog.samples import (
    ANY,
    START,
    FakeClock,
    Time,
    new_upload,
    put,
    trashed,
)

DAY = timedelta(days=1)
MONTH = 30 * DAY
MINUTE = timedelta(minutes=1)


async def test_retention_is_a_month_at_first(catalog: SqlCatalog, tenant: str) -> None:
    assert await catalog.bin.retention(tenant) == Retention()
    changed = Retention(7 * DAY, 3, 2 * DAY, START + DAY)
    await catalog.bin.retain(tenant, changed)
    assert await catalog.bin.retention(tenant) == changed
    await catalog.bin.retain(tenant, Retention())
    assert await catalog.bin.retention(tenant) == Retention()


async def test_retention_of_nobody(catalog: SqlCatalog) -> None:
    with pytest.raises(NotFound):
        await catalog.bin.retention(new_id())
    with pytest.raises(NotFound):
        await catalog.bin.retain(new_id(), Retention())


async def test_a_retention_is_amended_by_two_at_once(catalog: SqlCatalog, tenant: str) -> None:
    hold = START + 90 * DAY
    await asyncio.gather(
        catalog.bin.amend(tenant, lambda now: replace(now, trash=60 * DAY)),
        catalog.bin.amend(tenant, lambda now: replace(now, hold=hold)),
        catalog.bin.amend(tenant, lambda now: replace(now, versions=2)),
    )
    assert await catalog.bin.retention(tenant) == Retention(60 * DAY, 2, None, hold)
    with pytest.raises(ZeroDivisionError):
        await catalog.bin.amend(tenant, lambda _: Retention(DAY // 0))
    assert (await catalog.bin.retention(tenant)).hold == hold
    with pytest.raises(NotFound):
        await catalog.bin.amend(new_id(), lambda now: now)


async def test_a_hold_that_stays_gets_no_shorter(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    """Also where something else is changed while the clock is wrong, and right again later."""
    await trashed(catalog, tenant)
    await time.passes(MINUTE)
    hold = clock.now + 90 * DAY
    await catalog.bin.retain(tenant, Retention(hold=hold))
    time.jumps(80 * DAY)
    await catalog.bin.amend(tenant, lambda now: replace(now, trash=40 * DAY))
    assert await _due(catalog, tenant) == clock.now + 90 * DAY


async def test_a_hold_for_ever(catalog: SqlCatalog, tenant: str, time: Time) -> None:
    """Also after a day on which nothing was counted."""
    await trashed(catalog, tenant)
    forever = datetime(9999, 12, 31, 23, tzinfo=UTC)
    await catalog.bin.retain(tenant, Retention(hold=forever))
    time.jumps(DAY)
    assert await _due(catalog, tenant) == datetime.max.replace(tzinfo=UTC)


async def test_the_trash_by_page(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    versions = [await trashed(catalog, tenant, f"{n}") for n in range(4)]
    await put(catalog, tenant, "live")
    clock.now += DAY
    everything = await catalog.bin.trashed(tenant)
    expected = sorted(versions, key=lambda version: version.attachment)
    assert [each.version for each in everything] == expected
    # Nothing was counted so far, so the day that the clock went on does not count either.
    assert {(each.attachment.deleted, each.due) for each in everything} == {
        (START, START + DAY + MONTH)
    }
    after = expected[0].attachment
    assert await catalog.bin.trashed(tenant, after=after, limit=2) == everything[1:3]
    assert await catalog.bin.trashed(new_id()) == []


async def test_when_it_goes(catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock) -> None:
    await trashed(catalog, tenant)
    await time.passes(DAY)
    assert await _due(catalog, tenant) == START + MONTH
    time.jumps(DAY)
    assert await _due(catalog, tenant) == START + MONTH + DAY
    time.jumps(-DAY)
    hold = START + 90 * DAY
    await catalog.bin.retain(tenant, Retention(hold=hold))
    assert await _due(catalog, tenant) == hold
    await catalog.bin.retain(tenant, Retention(trash=2 * DAY))
    assert await _due(catalog, tenant) == clock.now + DAY


async def _due(catalog: SqlCatalog, tenant: str) -> object:
    (found,) = await catalog.bin.trashed(tenant)
    assert isinstance(found, Trashed)
    return found.due


async def test_what_was_deleted_comes_back(catalog: SqlCatalog, tenant: str) -> None:
    first, second = await put(catalog, tenant, "a"), await put(catalog, tenant, "a")
    before = await catalog.find(tenant, "a")
    await catalog.trash(tenant, "a", ANY)
    assert await catalog.bin.undelete(tenant, second.attachment) == before.attachment
    assert await catalog.find(tenant, "a") == before
    assert [f.version.id for f in await catalog.versions(tenant, "a")] == [second.id, first.id]
    assert await catalog.bin.trashed(tenant) == []
    with pytest.raises(NotFound):
        await catalog.bin.undelete(tenant, second.attachment)


async def test_undelete_of_what_is_not_there(catalog: SqlCatalog, tenant: str) -> None:
    version = await trashed(catalog, tenant)
    upload = new_upload(tenant)
    await catalog.begin(upload, "begun")
    for of, attachment in (
        (tenant, new_id()),
        (new_id(), version.attachment),
        (tenant, upload.attachment),
    ):
        with pytest.raises(NotFound):
            await catalog.bin.undelete(of, attachment)
        with pytest.raises(NotFound):
            await catalog.bin.doom_now(of, attachment)


async def test_undelete_where_another_took_its_place(catalog: SqlCatalog, tenant: str) -> None:
    old = await trashed(catalog, tenant)
    new = await put(catalog, tenant, "a")
    with pytest.raises(CatalogConflict, match="another attachment"):
        await catalog.bin.undelete(tenant, old.attachment)
    await catalog.trash(tenant, "a", ANY)
    await catalog.bin.undelete(tenant, old.attachment)
    with pytest.raises(CatalogConflict):
        await catalog.bin.undelete(tenant, new.attachment)
    assert (await catalog.find(tenant, "a")).version == old


async def test_undelete_against_a_new_one(several: list[SqlCatalog], tenant: str) -> None:
    for number in range(5):
        old = await trashed(several[0], tenant, f"{number}")
        upload = new_upload(tenant)
        ends = await asyncio.gather(
            several[1].bin.undelete(tenant, old.attachment),
            several[2].begin(upload, f"{number}"),
            return_exceptions=True,
        )
        undeleted, begun = ends
        assert not isinstance(begun, BaseException)
        if isinstance(undeleted, BaseException):
            assert isinstance(undeleted, CatalogConflict)
        else:
            assert begun.id == old.attachment


async def test_nothing_goes_before_both_clocks_say_so(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    await trashed(catalog, tenant)
    await time.passes(MONTH - MINUTE)
    assert await catalog.bin.doom(9) == 0
    time.jumps(400 * DAY)
    assert await catalog.bin.doom(9) == 0
    time.jumps(-400 * DAY)
    await time.passes(MINUTE)
    time.jumps(-MINUTE)
    assert await catalog.bin.doom(9) == 0
    time.jumps(MINUTE)
    assert await catalog.bin.doom(9) == 1


async def test_jumps_and_several_tickers_count_no_time_twice(
    several: list[SqlCatalog], tenant: str, clock: FakeClock
) -> None:
    catalog = several[0]
    tickers = [new_id() for _ in several]
    await catalog.bin.tick(timedelta(), tickers[0])
    await trashed(catalog, tenant)
    real = timedelta()
    step = 0
    while real < MONTH - DAY:
        real += 6 * DAY / 5
        clock.now += 6 * DAY / 5 + (100 * DAY if step % 2 else -100 * DAY)
        for each, ticker in zip(several, tickers, strict=True):
            await each.bin.tick(6 * DAY / 5, ticker)  # since each one's last
        step += 1
    clock.now = START + 1000 * DAY
    assert await catalog.bin.doom(9) == 0


async def test_ticks_at_once(several: list[SqlCatalog], tenant: str, clock: FakeClock) -> None:
    catalog, ticker = several[0], new_id()
    await asyncio.gather(*(each.bin.tick(timedelta(), new_id()) for each in several))
    await catalog.bin.retain(tenant, Retention(trash=DAY))
    await trashed(catalog, tenant)
    for _ in range(5):
        clock.now += 10 * MINUTE  # after so much silence the first to come takes over
        await asyncio.gather(
            *(
                each.bin.tick(10 * MINUTE, ticker if n else new_id())
                for n, each in enumerate(several)
            )
        )
    (found,) = await catalog.bin.trashed(tenant)
    assert found.due >= START + DAY
    clock.now = START + 10 * DAY
    assert await catalog.bin.doom(9) == 0


async def test_a_ticker_that_died_is_followed_by_another(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    await catalog.bin.retain(tenant, Retention(trash=DAY))
    await trashed(catalog, tenant)
    other = new_id()
    clock.now += 4 * MINUTE
    await time.counts(4 * MINUTE, other)  # not yet: the first may only be slow
    clock.now += 2 * MINUTE
    await time.counts(6 * MINUTE, other)  # from here on
    (found,) = await catalog.bin.trashed(tenant)
    assert found.due == clock.now + DAY
    clock.now += DAY
    await time.counts(2 * DAY, other)  # whatever it says, not more than the clock moved
    (found,) = await catalog.bin.trashed(tenant)
    assert found.due == clock.now
    assert await catalog.bin.doom(9) == 1


async def test_nothing_goes_under_a_hold(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    version = await trashed(catalog, tenant)
    await catalog.bin.retain(tenant, Retention(hold=clock.now + 90 * DAY))
    await time.passes(60 * DAY)
    assert await catalog.bin.doom(9) == 0
    with pytest.raises(CatalogConflict, match="hold"):
        await catalog.bin.doom_now(tenant, version.attachment)
    time.jumps(60 * DAY)  # the clock alone does not end it
    assert await catalog.bin.doom(9) == 0
    with pytest.raises(CatalogConflict):
        await catalog.bin.doom_now(tenant, version.attachment)
    time.jumps(-60 * DAY)
    await time.passes(30 * DAY)
    assert await catalog.bin.doom(9) == 1


async def test_a_purge_stops_for_a_hold_that_came_later(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    version = await trashed(catalog, tenant)
    await catalog.bin.doom_now(tenant, version.attachment)
    await catalog.bin.retain(tenant, Retention(hold=clock.now + DAY))
    assert await catalog.bin.doomed(9) == []
    assert not await catalog.bin.purge(version.id)
    await time.passes(DAY)
    (doomed,) = await catalog.bin.doomed(9)
    assert doomed.version.id == version.id
