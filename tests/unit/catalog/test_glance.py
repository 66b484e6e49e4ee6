"""A glance reads on the event loop while it can, and in a thread when it would have to wait."""

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

import gateway.catalog.sqlite as sqlite_database
from gateway.catalog.sqlite import SqliteDatabase
from gateway.errors import CatalogUnavailable, NotFound

HERE = threading.get_ident


@pytest.fixture
async def database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SqliteDatabase]:
    """Give a database with one row, on a disk that is quick however busy the machine is."""
    monkeypatch.setattr(sqlite_database, "SLOW", 600.0)
    monkeypatch.setattr(sqlite_database, "REST", 600.0)
    database = SqliteDatabase(tmp_path / "some.db", readers=2, patience=60.0)
    await database.write(lambda c: c.execute(text("CREATE TABLE rows AS SELECT 1 AS n")) and None)
    yield database
    await database.close()


def _look(connection: Connection) -> tuple[int, int]:
    return HERE(), int(connection.scalar(text("SELECT count(*) FROM rows")) or 0)


async def test_it_reads_here_what_is_there_now(database: SqliteDatabase) -> None:
    for number in range(1, 4):
        assert await database.glance(_look) == (HERE(), number)
        await database.write(lambda c: c.execute(text("INSERT INTO rows VALUES (2)")) and None)


async def test_it_leaves_no_transaction_open(database: SqliteDatabase) -> None:
    def fail(connection: Connection) -> None:
        _look(connection)
        raise NotFound("on purpose")

    with pytest.raises(NotFound):
        await database.glance(fail)
    assert await database.glance(_look) == (HERE(), 1)


async def test_it_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(CatalogUnavailable):
        await database.glance(lambda c: c.execute(text("INSERT INTO rows VALUES (2)")) and None)
    assert await database.glance(_look) == (HERE(), 1)


async def test_after_a_wait_for_the_disk_threads_read_for_a_while(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter(range(100))
    with monkeypatch.context() as slow:
        slow.setattr(sqlite_database, "SLOW", 0.0)
        slow.setattr(sqlite_database, "_blocks_read", lambda: next(reads))
        assert await database.glance(_look) == (HERE(), 1)
    thread, rows = await database.glance(_look)
    assert (thread != HERE(), rows) == (True, 1)

    database._no_glance_before = 0.0
    assert await database.glance(_look) == (HERE(), 1)


async def test_a_lock_is_waited_for_in_a_thread(database: SqliteDatabase) -> None:
    calls: list[int] = []

    def work(connection: Connection) -> tuple[int, int]:
        calls.append(HERE())
        if len(calls) == 1:
            raise sqlite3.OperationalError("database is locked")
        return _look(connection)

    thread, rows = await database.glance(work)

    assert calls == [HERE(), thread]
    assert (thread != HERE(), rows) == (True, 1)
