"""Which target is the primary, and what that means for a commit, on both databases."""

import asyncio

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import CatalogConflict, PlacementChanged, UploadLost
from gateway.model import Version
from gateway.ports import Placement
from tests.contracts.catalog.samples import (
    ABSENT,
    ANY,
    STORED,
    FakeClock,
    at,
    new_upload,
    version_of,
)


async def test_as_configured_at_first(catalog: SqlCatalog) -> None:
    assert await catalog.placements.placement() == Placement(0, None, None)


async def test_promote_and_back(catalog: SqlCatalog, clock: FakeClock) -> None:
    clock.now = at(3)
    promoted = await catalog.placements.promote("backup", epoch=0)
    assert promoted == await catalog.placements.placement() == Placement(1, "backup", at(3))
    clock.now = at(4)
    assert await catalog.placements.promote(None, epoch=1) == Placement(2, None, at(4))
    assert await catalog.placements.placement() == Placement(2, None, at(4))


async def test_a_decision_on_old_news_is_refused(catalog: SqlCatalog) -> None:
    for epoch in (-1, 1):
        with pytest.raises(CatalogConflict, match="look at it again"):
            await catalog.placements.promote("backup", epoch=epoch)
    assert (await catalog.placements.placement()).epoch == 0
    await catalog.placements.promote("backup", epoch=0)
    with pytest.raises(CatalogConflict):
        await catalog.placements.promote("other", epoch=0)
    assert (await catalog.placements.placement()).primary == "backup"


async def test_one_of_several_decides(several: list[SqlCatalog]) -> None:
    for epoch in range(4):
        ends = await asyncio.gather(
            *(each.placements.promote(f"{n}", epoch=epoch) for n, each in enumerate(several)),
            return_exceptions=True,
        )
        assert sum(isinstance(end, CatalogConflict) for end in ends) == len(several) - 1
        (decided,) = (end for end in ends if isinstance(end, Placement))
        assert await several[0].placements.placement() == decided


async def test_nothing_commits_under_an_older_epoch(catalog: SqlCatalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    await catalog.placements.promote("backup", epoch=0)
    for _ in range(2):
        with pytest.raises(PlacementChanged):
            await catalog.commit(version, STORED, ANY, None, epoch=0)
    assert not await catalog.committed(upload.id)
    await catalog.commit(version, STORED, ANY, None, epoch=1)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, None, epoch=0)


async def test_commit_under_a_later_epoch_than_is_known_here(
    catalog: SqlCatalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    with pytest.raises(PlacementChanged):  # this catalog was brought back from a copy
        await catalog.commit(version, STORED, ABSENT, None, epoch=7)
    await catalog.commit(version, STORED, ABSENT, None, epoch=0)


async def test_commits_against_a_decision(several: list[SqlCatalog], tenant: str) -> None:
    """Once a decision returned, nothing of the old epoch commits any more."""
    deciding, *committing = several
    for epoch in range(5):
        uploads = [new_upload(tenant) for _ in range(8)]
        versions = [
            version_of(u, await deciding.begin(u, f"{epoch}/{n}")) for n, u in enumerate(uploads)
        ]
        decided = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_commit(committing[n % 2], version, epoch, decided))
                for n, version in enumerate(versions)
            ]
            group.create_task(_decide(deciding, epoch, decided))
        for task, upload in zip(tasks, uploads, strict=True):
            assert task.result() in ("in time", "refused")
            assert await deciding.committed(upload.id) == (task.result() == "in time")


async def _decide(catalog: SqlCatalog, epoch: int, decided: asyncio.Event) -> None:
    await catalog.placements.promote(None, epoch=epoch)
    decided.set()


async def _commit(catalog: SqlCatalog, version: Version, epoch: int, decided: asyncio.Event) -> str:
    await asyncio.sleep(0.003 * (int(version.id[:2], 16) % 4))
    late = decided.is_set()
    try:
        await catalog.commit(version, STORED, ANY, None, epoch=epoch)
    except PlacementChanged:
        return "refused"
    return "too late" if late else "in time"
