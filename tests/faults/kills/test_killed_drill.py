"""kill -9 of a drill, again and again: whoever comes next goes on, and counts nothing twice."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.attachments.uploads import Draft
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.ports import Run, RunState
from gateway.recovery.drill import EVERYTHING
from gateway.settings.config import load
from gateway.wiring.core import open_core
from tests.faults.kills.quick_drill import begin
from tests.stack.stack import Stack

VERSIONS = 24
MOST = 5  # versions that are tried before a kill
PATIENCE = 120.0  # seconds for a forked process to get anywhere on a busy machine


async def body(size: int) -> AsyncIterator[bytes]:
    yield b"x" * size


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[Path]:
    """Fill a site, half of it inline; its gateway does not run, and no row of work goes stale by itself."""
    stack = await asyncio.to_thread(
        Stack,
        tmp_path / "stack",
        targets={name: tmp_path / name for name in ("primary", "east")},
        catalog=f"sqlite:///{tmp_path}/catalog.db",
        extra={"limits": {"inline": 1024}, "worker": {"lease": 3600.0}},
        top={"log_level": "error"},
    )
    await migrate(stack.catalog)
    await asyncio.to_thread(stack.keys.start)
    try:
        settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
        async with open_core(settings) as core:
            tenant = (await core.services.tenants.create()).id
            for number in range(VERSIONS):
                draft = Draft(tenant, str(number))
                await core.services.uploads.store(draft, body(10 + number % 2 * 3000))
            await core.rescue.backups.make()
        yield stack.home / "gateway.toml"
    finally:
        await asyncio.to_thread(stack.keys.stop)


async def newest(catalog: SqlCatalog) -> Run | None:
    return next(iter(await catalog.runs.history(EVERYTHING, limit=1)), None)


def checked(run: Run | None) -> int:
    return 0 if run is None else run.progress.get("checked", 0)


async def drill_and_kill(config: Path, catalog: SqlCatalog, wait: float) -> None:
    """Begin a drill, or go on with one, and kill it some time after it got further."""
    before, until = await newest(catalog), time.monotonic() + PATIENCE
    process = await asyncio.to_thread(begin, config, MOST)
    while time.monotonic() < until and process.is_alive():
        run = await newest(catalog)
        if run is not None and (run.id != (before and before.id) or checked(run) > checked(before)):
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(wait)
    process.kill()
    await asyncio.to_thread(process.join)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(3, id="3"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_a_drill_that_is_killed_anywhere_goes_on(
    kills: int, config: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(kills)
    catalog = await open_catalog(f"sqlite:///{tmp_path}/catalog.db", patience=60.0)
    try:
        known, resumed = "", 0
        for _ in range(kills):
            before = await newest(catalog)
            await drill_and_kill(config, catalog, rng.uniform(0, 0.05))
            run = await newest(catalog)
            assert run is not None
            if before is not None and before.state is RunState.RUNNING:
                assert run.id == before.id, "it is the same drill, and no new one"
                assert checked(run) >= checked(before)
                resumed += bool(before.cursor)
            if run.state is RunState.RUNNING:
                await catalog.runs.release(run)  # as when its lease is over
            else:
                assert (run.state, run.outcome["checked"]) == (RunState.DONE, VERSIONS)
            known = run.id if run.state is RunState.RUNNING else ""
        process = await asyncio.to_thread(begin, config, 0)
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
        last = await newest(catalog)
        assert last is not None
        assert known in {"", last.id}
        assert (last.state, last.outcome["good"]) == (RunState.DONE, True)
        assert (last.outcome["checked"], last.outcome["failed"]) == (VERSIONS, 0)
    finally:
        await catalog.close()
    record_property("kills", kills)
    record_property("of them in a drill that was gone on with", resumed)
    assert resumed
