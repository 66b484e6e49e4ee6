"""How versions end: out of reach, gone from every target, forgotten; on both databases."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from gateway.catalog import SqlCatalog
from gateway.catalog.tables import metadata
from gateway.errors import NotFound
from gateway.model import ReplicaState, Retention
from gateway.ports import Doomed
from tests.contracts.catalog.samples import (
    ANY,
    PRESENT,
    START,
    STORED,
    TICKER,
    FakeClock,
    Time,
    new_upload,
    put,
    trashed,
    version_of,
)

DAY = timedelta(days=1)
MONTH = 30 * DAY
MINUTE = timedelta(minutes=1)


async def _purge(catalog: SqlCatalog, doomed: Iterable[Doomed]) -> None:
    for each in doomed:
        for target in each.targets:
            await catalog.bin.gone(each.version.id, target)
        assert await catalog.bin.purge(each.version.id)


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
    await trashed(catalog, tenant, "b")
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
        version = await trashed(several[0], tenant, f"{number}")
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
        await trashed(several[0], tenant, f"{number}")
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
    version = await trashed(catalog, tenant)
    await catalog.bin.doom_now(tenant, version.attachment)
    held = await catalog.replicas.version(version.id)
    assert held == version
    gaps = await catalog.replicas.claim([*STORED], lease=DAY, limit=9, newest=True, tenant=tenant)
    assert gaps == []
    assert ReplicaState.DELETING not in STORED.values()


async def _count(catalog: SqlCatalog, table: str) -> int:
    query = select(func.count()).select_from(metadata.tables[table])
    return await catalog._database.read(lambda connection: connection.scalar(query) or 0)
