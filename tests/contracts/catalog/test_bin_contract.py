"""The trash: what may come back, and what never goes before its time, on both databases."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from gateway.catalog import SqlCatalog
from gateway.catalog.tables import metadata
from gateway.errors import CatalogConflict, NotFound
from gateway.model import ReplicaState, Retention, Version, new_id
from gateway.ports import Doomed, Trashed
from tests.contracts.catalog.samples import (
    ANY,
    PRESENT,
    START,
    STORED,
    FakeClock,
    new_upload,
    put,
    version_of,
)

DAY = timedelta(days=1)
MONTH = 30 * DAY
MINUTE = timedelta(minutes=1)
TICKER = new_id()


class Time:
    """Time that passes for the clock and for one ticker alike, unless a test says otherwise."""

    def __init__(self, catalog: SqlCatalog, clock: FakeClock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def passes(self, elapsed: timedelta) -> None:
        """Let time pass by both clocks."""
        self._clock.now += elapsed
        await self.counts(elapsed)

    def jumps(self, jump: timedelta) -> None:
        """Set the database's clock forward or back."""
        self._clock.now += jump

    async def counts(self, elapsed: timedelta, ticker: str = TICKER) -> None:
        """Let a ticker say how much time has passed."""
        await self._catalog.bin.tick(elapsed, ticker)


@pytest.fixture
async def time(catalog: SqlCatalog, clock: FakeClock) -> Time:
    """Give time, whose first tick is done."""
    await catalog.bin.tick(timedelta(), TICKER)
    return Time(catalog, clock)


async def _trashed(catalog: SqlCatalog, tenant: str, reference: str = "a") -> Version:
    version = await put(catalog, tenant, reference)
    await catalog.trash(tenant, reference, ANY)
    return version


async def _purge(catalog: SqlCatalog, doomed: Iterable[Doomed]) -> None:
    for each in doomed:
        for target in each.targets:
            await catalog.bin.gone(each.version.id, target)
        assert await catalog.bin.purge(each.version.id)


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


async def test_the_trash_by_page(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    versions = [await _trashed(catalog, tenant, f"{n}") for n in range(4)]
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
    await _trashed(catalog, tenant)
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
    version = await _trashed(catalog, tenant)
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
    old = await _trashed(catalog, tenant)
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
        old = await _trashed(several[0], tenant, f"{number}")
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
    await _trashed(catalog, tenant)
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
    await _trashed(catalog, tenant)
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
    await _trashed(catalog, tenant)
    for _ in range(5):
        clock.now += 10 * MINUTE  # after so much silence the first to come takes over
        await asyncio.gather(
            *(
                each.bin.tick(10 * MINUTE, ticker if n else new_id())
                for n, each in enumerate(several)
            )
        )
    (trashed,) = await catalog.bin.trashed(tenant)
    assert trashed.due >= START + DAY
    clock.now = START + 10 * DAY
    assert await catalog.bin.doom(9) == 0


async def test_a_ticker_that_died_is_followed_by_another(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    await catalog.bin.retain(tenant, Retention(trash=DAY))
    await _trashed(catalog, tenant)
    other = new_id()
    clock.now += 4 * MINUTE
    await time.counts(4 * MINUTE, other)  # not yet: the first may only be slow
    clock.now += 2 * MINUTE
    await time.counts(6 * MINUTE, other)  # from here on
    (trashed,) = await catalog.bin.trashed(tenant)
    assert trashed.due == clock.now + DAY
    clock.now += DAY
    await time.counts(2 * DAY, other)  # whatever it says, not more than the clock moved
    (trashed,) = await catalog.bin.trashed(tenant)
    assert trashed.due == clock.now
    assert await catalog.bin.doom(9) == 1


async def test_nothing_goes_under_a_hold(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    version = await _trashed(catalog, tenant)
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


async def test_what_is_doomed_is_beyond_reach(catalog: SqlCatalog, tenant: str, time: Time) -> None:
    first, second = await put(catalog, tenant, "a"), await put(catalog, tenant, "a")
    await catalog.trash(tenant, "a", ANY)
    await time.passes(MONTH)
    assert await catalog.bin.doom(9) == 2
    for version in (first, second):
        with pytest.raises(NotFound):
            await catalog.by_version(tenant, version.id)
    with pytest.raises(NotFound):
        await catalog.bin.undelete(tenant, first.attachment)
    assert await catalog.bin.trashed(tenant) == []
    assert await catalog.known([first.blob, second.blob]) == {first.blob, second.blob}
    doomed = await catalog.bin.doomed(9)
    assert [each.version for each in doomed] == sorted([first, second], key=lambda v: v.id)
    assert {each.targets for each in doomed} == {frozenset(STORED)}
    assert await catalog.bin.doomed(9, after=doomed[0].version.id) == doomed[1:]
    assert await catalog.bin.doom(9) == 0


async def test_a_purge_in_its_order(catalog: SqlCatalog, tenant: str) -> None:
    versions = [await put(catalog, tenant, "a") for _ in range(3)]
    assert not await catalog.bin.purge(versions[0].id)
    await catalog.bin.gone(versions[0].id, "primary")  # it is not being purged
    assert set((await catalog.by_version(tenant, versions[0].id)).replicas) == set(STORED)
    await catalog.trash(tenant, "a", ANY)
    for _ in range(2):  # the first answer may have been lost
        assert await catalog.bin.doom_now(tenant, versions[0].attachment) == 3
    one = versions[2].id
    assert not await catalog.bin.purge(one)
    for _ in range(2):
        await catalog.bin.gone(one, "primary")
    assert not await catalog.bin.purge(one)
    assert {each.version.id: each.targets for each in await catalog.bin.doomed(9)}[one] == {
        "backup"
    }
    await catalog.bin.gone(one, "backup")
    for _ in range(2):
        assert await catalog.bin.purge(one)
    assert await catalog.known([versions[2].blob]) == frozenset()
    await _purge(catalog, await catalog.bin.doomed(9))
    assert await catalog.bin.doomed(9) == []
    assert await _count(catalog, "attachments") == 0
    with pytest.raises(NotFound):
        await catalog.bin.doom_now(tenant, versions[0].attachment)


async def test_an_upload_that_lasts_outlives_its_attachment(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    upload = new_upload(tenant)
    late = version_of(upload, await catalog.begin(upload, "a"))
    await catalog.trash(tenant, "a", ANY)
    await catalog.bin.doom_now(tenant, version.attachment)
    await _purge(catalog, await catalog.bin.doomed(9))
    with pytest.raises(NotFound):
        await catalog.commit(late, STORED, ANY, None)
    assert await catalog.bin.doom(9) == 0
    await catalog.fence(upload.id)
    await catalog.forget(upload.id)
    assert await _count(catalog, "attachments") == 0


async def test_no_more_at_once_than_asked_for(catalog: SqlCatalog, tenant: str, time: Time) -> None:
    for _ in range(3):
        await put(catalog, tenant, "a")
    await catalog.trash(tenant, "a", ANY)
    await _trashed(catalog, tenant, "b")
    await time.passes(MONTH)
    assert [await catalog.bin.doom(2) for _ in range(3)] == [2, 2, 0]
    await _purge(catalog, await catalog.bin.doomed(9))
    assert await _count(catalog, "attachments") == 0


async def test_attachments_that_are_half_doomed_are_beyond_recall(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    version = await put(catalog, tenant, "a")
    await put(catalog, tenant, "a")
    await catalog.trash(tenant, "a", ANY)
    await time.passes(MONTH)
    assert await catalog.bin.doom(1) == 1
    with pytest.raises(NotFound):
        await catalog.bin.undelete(tenant, version.attachment)
    assert await catalog.bin.doom_now(tenant, version.attachment) == 2
    assert len(await catalog.bin.doomed(9)) == 2


async def test_doom_against_undelete(several: list[SqlCatalog], tenant: str) -> None:
    for number in range(6):
        version = await _trashed(several[0], tenant, f"{number}")
        doomed, undeleted = await asyncio.gather(
            several[1].bin.doom_now(tenant, version.attachment),
            several[2].bin.undelete(tenant, version.attachment),
            return_exceptions=True,
        )
        if isinstance(undeleted, NotFound):
            assert doomed == 1
            with pytest.raises(NotFound):
                await several[0].find(tenant, f"{number}")
        else:
            assert isinstance(doomed, NotFound)
            assert (await several[0].find(tenant, f"{number}")).version == version


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(trash=DAY), 5),
        (Retention(trash=DAY, versions=2), 3),
        (Retention(trash=DAY, versions=0), 1),
        (Retention(trash=DAY, age=7 * DAY), 2),
        (Retention(trash=9 * DAY, age=DAY), 3),
        (Retention(trash=DAY, versions=3, age=7 * DAY), 4),
        (Retention(trash=DAY, versions=1, age=10 * DAY), 3),
        (Retention(trash=DAY, versions=3, age=DAY), 4),
        (Retention(trash=DAY, versions=0, hold=START + 400 * DAY), 5),
    ],
)
async def test_replaced_versions(
    catalog: SqlCatalog, tenant: str, time: Time, retention: Retention, left: int
) -> None:
    versions = []
    for _ in range(5):
        versions.append(await put(catalog, tenant, "a"))
        await time.passes(4 * DAY)
    # The first four were replaced 16, 12, 8 and 4 days ago.
    await catalog.bin.retain(tenant, retention)
    time.jumps(100 * DAY)
    time.jumps(-100 * DAY)
    while await catalog.bin.doom(1):
        pass
    kept = versions[len(versions) - left :]
    assert [f.version.id for f in await catalog.versions(tenant, "a")] == [
        version.id for version in reversed(kept)
    ]
    assert len(await catalog.bin.doomed(9)) == 5 - left
    for gone in versions[: 5 - left]:
        with pytest.raises(NotFound):
            await catalog.find(tenant, "a", gone.id)
        with pytest.raises(NotFound):
            await catalog.versions(tenant, "a", gone.id)
    await _purge(catalog, await catalog.bin.doomed(9))
    assert (await catalog.find(tenant, "a")).version == versions[-1]
    again = await put(catalog, tenant, "a", PRESENT)
    assert (await catalog.find(tenant, "a")).version == again


async def test_a_replaced_version_is_kept_by_both_clocks(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    await put(catalog, tenant, "a")
    await put(catalog, tenant, "a")
    await catalog.bin.retain(tenant, Retention(trash=DAY, age=7 * DAY))
    time.jumps(400 * DAY)
    assert await catalog.bin.doom(9) == 0
    time.jumps(-400 * DAY)
    await time.passes(7 * DAY)
    assert await catalog.bin.doom(9) == 1


async def test_doom_at_once(several: list[SqlCatalog], tenant: str, clock: FakeClock) -> None:
    await several[0].bin.tick(timedelta(), TICKER)
    for number in range(10):
        await _trashed(several[0], tenant, f"{number}")
    clock.now += MONTH
    await several[0].bin.tick(MONTH, TICKER)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_all_doomed(each)) for each in several]
    assert sum(task.result() for task in tasks) == 10
    doomed = await several[0].bin.doomed(99)
    await asyncio.gather(*(_purge(each, doomed) for each in several))
    assert await _count(several[0], "attachments") == 0


async def _all_doomed(catalog: SqlCatalog) -> int:
    total = 0
    while count := await catalog.bin.doom(3):
        total += count
    return total


async def test_doomed_replicas_are_no_source(catalog: SqlCatalog, tenant: str) -> None:
    version = await _trashed(catalog, tenant)
    await catalog.bin.doom_now(tenant, version.attachment)
    held = await catalog.replicas.version(version.id)
    assert held == version
    gaps = await catalog.replicas.claim([*STORED], lease=DAY, limit=9, newest=True, tenant=tenant)
    assert gaps == []
    assert ReplicaState.DELETING not in STORED.values()


async def _count(catalog: SqlCatalog, table: str) -> int:
    query = select(func.count()).select_from(metadata.tables[table])
    return await catalog._database.read(lambda connection: connection.scalar(query) or 0)
