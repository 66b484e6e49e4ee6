"""A target that came later: every version gets a row there, whoever asks, and however many ask."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Version
from gateway.ports import Gap, Lag
from tests.contracts.catalog.samples import (
    START,
    FakeClock,
    at,
    put,
)

LEASE = timedelta(seconds=60)
HOUR = timedelta(hours=1)
DAMAGED, DELETING = ReplicaState.DAMAGED, ReplicaState.DELETING
GONE, WHOLE = ReplicaState.MISSING, ReplicaState.STORED


async def _several(catalog: SqlCatalog, tenant: str, count: int) -> list[Version]:
    return [await put(catalog, tenant, f"{n}", started=at(n)) for n in range(count)]


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


async def test_a_new_target_is_filled_newest_first(
    catalog: SqlCatalog, tenant: str, clock: FakeClock
) -> None:
    versions = await _several(catalog, tenant, 5)
    clock.now = at(100)
    size = sum(version.body_size for version in versions)
    assert await catalog.replicas.lag(["new"]) == [Lag("new", 5, size, START, 0)]
    assert await catalog.replicas.adopt("new", 2) == 2
    (lag,) = await catalog.replicas.lag(["new"])
    assert (lag.objects, lag.bytes) == (5, size)
    assert await catalog.replicas.adopt("new", 9) == 3
    assert await catalog.replicas.adopt("new", 9) == 0
    gaps = await _claim(catalog, "new")
    assert [gap.version.id for gap in gaps] == [version.id for version in reversed(versions)]
    assert {gap.since for gap in gaps} == {at(100)}


async def test_adopting_goes_on_window_by_window(
    catalog: SqlCatalog, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.catalog.unknown.WINDOW", 2)
    versions = await _several(catalog, tenant, 7)
    assert await catalog.replicas.adopt("new", 1) == 1
    total = 1
    while count := await catalog.replicas.adopt("new", 9):
        assert count <= 2
        total += count
    assert total == 7
    # One that a gateway with older settings commits afterwards is found by the next walk.
    late = await put(catalog, tenant, "late")
    assert await catalog.replicas.adopt("new", 9) == 1
    assert await catalog.replicas.adopt("new", 9) == 0
    adopted = {gap.version.id for gap in await _claim(catalog, "new")}
    assert adopted == {version.id for version in versions} | {late.id}


async def test_adopt_at_once(several: list[SqlCatalog], tenant: str) -> None:
    await _several(several[0], tenant, 20)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_adopted(each)) for each in several]
    assert sum(task.result() for task in tasks) == 20
    assert len(await _claim(several[0], "new")) == 20


async def _adopted(catalog: SqlCatalog) -> int:
    total = 0
    while count := await catalog.replicas.adopt("new", 3):
        total += count
    return total
