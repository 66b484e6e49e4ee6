"""Long work by hand: interrupted anywhere, the next one goes on; done, the next one begins anew."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.duties.record import AlreadyRunning, take_over
from gateway.duties.resumed import resumed
from gateway.errors import StoreUnavailable
from gateway.model import now
from gateway.ports import Run, RunState
from tests.doubles.runs import MemoryRuns

LEASE = timedelta(seconds=0.3)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    opened = await open_catalog(url)
    yield opened
    await opened.close()


async def test_what_failed_goes_on_where_it_was(catalog: SqlCatalog) -> None:
    async def fail() -> None:
        async with resumed(catalog.runs, "scrub all", "east") as ledger:
            await ledger.save("here", {"verified": 7})
            raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        await fail()
    async with resumed(catalog.runs, "scrub all", "east") as ledger:
        assert (ledger.run.cursor, ledger.run.progress) == ("here", {"verified": 7})
        await ledger.save("there", {"verified": 9})
    async with resumed(catalog.runs, "scrub all", "east") as ledger:
        assert (ledger.run.cursor, ledger.run.progress) == ("", {})
    ended = await catalog.runs.history("scrub all", "east")
    assert [(run.state, run.outcome) for run in ended] == [
        (RunState.DONE, {}),
        (RunState.DONE, {"verified": 9}),
    ]


async def test_what_was_interrupted_goes_on_at_once(catalog: SqlCatalog) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with resumed(catalog.runs, "scrub all", "east") as ledger:
            await ledger.save("here", {})
            begun.set()
            await asyncio.sleep(60)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await begun.wait()
        task.cancel()
    async with resumed(catalog.runs, "scrub all", "east") as ledger:
        assert ledger.run.cursor == "here"


@pytest.mark.usefixtures("refused_soon")
async def test_two_are_not_at_it_at_once(catalog: SqlCatalog) -> None:
    async with resumed(catalog.runs, "scrub all", "east"):
        with pytest.raises(AlreadyRunning):
            async with resumed(catalog.runs, "scrub all", "east"):
                raise AssertionError
        async with resumed(catalog.runs, "scrub all", "west") as ledger:
            assert ledger.run.subject == "west"


async def test_what_was_killed_is_taken_over_once_its_lease_is_over(catalog: SqlCatalog) -> None:
    run = await catalog.runs.claim(
        "scrub all", "east", holder="dead", every=timedelta(), lease=LEASE
    )
    assert run is not None
    async with resumed(catalog.runs, "scrub all", "east", lease=LEASE) as ledger:
        assert ledger.run.id == run.id


async def test_a_catalog_that_answers_late_is_asked_once_more_when_the_lease_is_over() -> None:
    class Late(MemoryRuns):
        async def claim(self, *about: Any, **options: Any) -> Run | None:
            run = await super().claim(*about, **options)
            await asyncio.sleep(0.1)  # longer than patience lasts
            return run

    runs, lease = Late(), timedelta(seconds=0.05)
    dead = await runs.claim("scrub all", "east", holder="dead", every=timedelta(), lease=lease)
    assert dead is not None
    runs.rows[0] = replace(dead, touched=now())
    run = await take_over(runs, "scrub all", "east", lease=lease, patience=1.0, refusal="taken")
    assert run.id == dead.id
