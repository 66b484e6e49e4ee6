"""SQLite under strain: kills, cancellations, timeouts, and another process with the lock."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gateway.catalog import migrate, open_catalog
from gateway.catalog.sqlite import SqliteDatabase
from gateway.errors import CatalogUnavailable
from gateway.ports import Catalog
from tests.service.http.eventually import eventually

KILLS = 5
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """Give a database with one empty table."""
    database = SqliteDatabase(tmp_path / "some.db", readers=2, patience=60.0)
    await database.write(_run("CREATE TABLE rows (n INTEGER PRIMARY KEY)"))
    yield database
    await database.close()


def _run(statement: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    return work


async def _count(database: SqliteDatabase) -> int:
    return await database.read(lambda c: int(c.scalar(text("SELECT count(*) FROM rows")) or 0))


async def test_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    acknowledged: list[list[str]] = []
    for number in range(KILLS):
        lines = await asyncio.to_thread(_commit_until_killed, url, 0.1 * number)
        acknowledged += [line.split() for line in lines]
        catalog = await open_catalog(url)
        await _is_consistent(catalog, acknowledged)
        await catalog.close()
    assert len(acknowledged) > KILLS


def _commit_until_killed(url: str, seconds: float) -> list[str]:
    argv = [sys.executable, "-m", "tests.unit.catalog.committing", url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as program:
        assert program.stdout
        first = program.stdout.readline()
        time.sleep(seconds * random.random())
        os.kill(program.pid, signal.SIGKILL)
        lines = [first, *program.stdout]
    return [line for line in lines if line.endswith("\n")]


async def _is_consistent(catalog: Catalog, acknowledged: list[list[str]]) -> None:
    for tenant, reference, version in acknowledged:
        assert (await catalog.find(tenant, reference)).version.id == version
        assert await catalog.committed(version)
    for tenant in {line[0] for line in acknowledged}:
        for found in await catalog.list(tenant, "", None, 100_000):
            assert len(found.replicas) == 2
            assert len(found.version.envelope) == 640


async def test_failed_work_is_rolled_back(database: SqliteDatabase) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO rows VALUES (1)"))
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(work)
    assert await _count(database) == 0


async def test_reader_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(CatalogUnavailable):
        await database.read(_run("INSERT INTO rows VALUES (1)"))
    assert await _count(database) == 0


async def test_cancelled_while_it_runs_is_whole(database: SqliteDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO rows VALUES (1)"))
        begun.set()
        go_on.wait(60)
        connection.execute(text("INSERT INTO rows VALUES (2)"))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(database.write(work))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        assert await _count(database) == 0
        go_on.set()
    await database.write(_run("SELECT 1"))  # queues behind it
    assert await _count(database) == 2


async def test_cancelled_before_it_runs_is_nothing(database: SqliteDatabase) -> None:
    go_on = threading.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(lambda _: go_on.wait(60)))
        queued = group.create_task(database.write(_run("INSERT INTO rows VALUES (1)")))
        await asyncio.sleep(0.01)
        queued.cancel()
        await asyncio.sleep(0)
        go_on.set()
    await database.write(_run("SELECT 1"))
    assert await _count(database) == 0


async def test_readers_go_on_while_a_writer_writes(database: SqliteDatabase) -> None:
    go_on = threading.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(lambda _: go_on.wait(60)))
        assert await _count(database) == 0
        go_on.set()


async def test_another_process_is_waited_for(database: SqliteDatabase, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(_run("INSERT INTO rows VALUES (1)")))
        await asyncio.sleep(0.1)
        other.execute("INSERT INTO rows VALUES (2)")
        other.execute("COMMIT")
    other.close()
    assert await _count(database) == 2


async def test_patience_ends(tmp_path: Path, database: SqliteDatabase) -> None:
    impatient = SqliteDatabase(tmp_path / "some.db", readers=1, patience=0.2)
    other = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CatalogUnavailable) as caught:
        await impatient.write(_run("INSERT INTO rows VALUES (1)"))
    assert caught.value.retry_after
    other.close()

    async def written() -> bool:
        with contextlib.suppress(CatalogUnavailable):  # on a busy machine it may not wait enough
            await impatient.write(_run("INSERT OR IGNORE INTO rows VALUES (2)"))
        return await _count(database) == 1

    await eventually(written)
    await impatient.close()


async def test_a_storm_of_writers_is_served(database: SqliteDatabase) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(database.write(_run(f"INSERT INTO rows VALUES ({number})")))
    assert await _count(database) == 100


async def test_another_process_that_leaves_takes_nothing_away(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "some.db"
    await database.write(_run("INSERT INTO rows VALUES (1)"))
    # More connections, opened while others are there and hold their locks.
    await asyncio.gather(_count(database), _count(database))
    look = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); print(*c.execute('SELECT n FROM rows'))"

    def looked() -> str:
        command = [sys.executable, "-c", f"{look}; c.close()", str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert await asyncio.to_thread(looked) == "(1,)"
    log = (tmp_path / "some.db-wal").stat().st_ino
    await database.write(_run("INSERT INTO rows VALUES (2)"))

    assert (tmp_path / "some.db-wal").stat().st_ino == log
    assert await asyncio.to_thread(looked) == "(1,) (2,)"
