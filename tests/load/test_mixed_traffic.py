"""Mixed traffic with clients that leave and a gateway that is stopped and started under them.

Afterwards nothing is left of what broke, the gateway holds no more than at its start, and every
acknowledged attachment reads back.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.settings.config import load
from gateway.wiring.core import open_core
from tests.load.conftest import NewPlace, on_folders
from tests.load.place import Holdings, Place, eventually, quiet
from tests.load.traffic import Application, Journal
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client, MiB
from tests.stack.stack import Bucket

STREAM = 24 * MiB  # what one stream may add to a gateway's memory
READY = 8 * 8 * MiB  # part buffers that may lie ready; how many do at a time is chance


@dataclass(frozen=True, slots=True)
class Course:
    """How much traffic, how long between two stops, and how often."""

    applications: int
    life: float
    lives: int


SHORT = Course(applications=6, life=2.0, lives=3)
LONG = Course(applications=12, life=60.0, lives=10)


@pytest.mark.parametrize(
    "course",
    [
        # Three gateways one after the other, and all that they took is read.
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(600)),
        pytest.param(LONG, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(2400)]),
    ],
)
async def test_nothing_leaks_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
    new_place: NewPlace,
    s3: Versitygw,
    record_property: Callable[[str, object], None],
    course: Course,
) -> None:
    place = await new_place(
        tmp_path,
        **on_folders(
            tmp_path,
            targets={"primary": Bucket(s3, s3.new_bucket()), "cellar": tmp_path / "cellar"},
            extra={"reaper": {"every": 1.0, "grace": 1.0}},
            top={"drain_timeout": 2.0, "heartbeat": 0.25},
        ),
    )
    token = place.admin_token()
    async with Client(place.url, token) as client:
        above = f"/v1/tenants/{await client.create_tenant()}/attachments"
    journal, stop = Journal(), asyncio.Event()

    async with asyncio.TaskGroup() as group:
        for seed in range(course.applications):
            worker = Application(place, token, above, journal, random.Random(seed))
            group.create_task(worker.run(stop))
        for life in range(course.lives):
            if life:
                await asyncio.to_thread(place.gateway.restart)
            await _acknowledging(journal, course.life)
        stop.set()

    async with Client(place.url, token) as client:
        await client.json("GET", above)
    idle = await _rested(place)
    await _again(place, token, above, journal, course)
    after = await quiet(place, idle)
    record_property("counts", str(journal.counts))
    record_property("memory", f"{idle.memory} {after.memory}")

    assert after.memory - idle.memory < READY + course.applications * STREAM / 4
    assert not journal.wrong
    assert journal.counts["left"] > 0
    async with Client(place.url, token) as client:
        for path, digest in journal.acknowledged.items():
            assert await client.digest(path) == digest
    await asyncio.to_thread(place.gateway.stop)
    await asyncio.sleep(1.5)  # past the reaper's grace
    await _nothing_is_left(place)


async def _acknowledging(journal: Journal, seconds: float) -> None:
    """Wait so long, and until something was acknowledged meanwhile."""
    goal = len(journal.acknowledged) + 3
    await asyncio.sleep(seconds)
    await eventually(lambda: len(journal.acknowledged) >= goal, within=60)


async def _rested(place: Place) -> Holdings:
    """Wait until no request runs and every broken upload is cleaned up."""
    await eventually(lambda: not place.uploads())
    until = time.monotonic() + 60
    while (found := await place.holdings()).clients or await place.running():
        assert time.monotonic() < until, found
        await asyncio.sleep(0.1)
    return found


async def _again(place: Place, token: str, above: str, journal: Journal, course: Course) -> None:
    """Send the same kind of traffic once more to a gateway that is warm."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for seed in range(course.applications):
            worker = Application(place, token, above, journal, random.Random(1000 + seed))
            group.create_task(worker.run(stop))
        await _acknowledging(journal, course.life)
        stop.set()


async def _nothing_is_left(place: Place) -> None:
    """Reap once, as every gateway does now and then, and look at the catalog and the stores."""
    settings = await asyncio.to_thread(load, place.home / "gateway.toml", environment=False)
    async with open_core(settings) as core:
        await core.reaper.uploads()
        assert await core.catalog.stale(timedelta(), 10) == []
        for target in core.targets:
            assert [each async for each in target.store.unfinished("t/")] == []
            blobs = {stat.key.split("/")[2] async for stat in target.store.list("t/")}
            assert blobs <= await core.catalog.known(sorted(blobs))
