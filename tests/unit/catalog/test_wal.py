"""Turns at SQLite's lock, and when what was committed is on disk, without measuring any time."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from gateway.catalog import wal
from gateway.catalog.open import migrate, open_catalog
from gateway.catalog.sqlite import SqliteDatabase
from gateway.errors import CatalogUnavailable

PATIENCE = 20.0


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another process, as far as SQLite can tell, which may hold the lock."""
    other = sqlite3.connect(tmp_path / "some.db", isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = WAL").close()
    other.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
    yield other
    other.close()


def _insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO rows VALUES (1)"))


async def test_who_finds_the_lock_taken_asks_until_it_is_free(
    tmp_path: Path, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            holder.execute("COMMIT")

    monkeypatch.setattr("gateway.catalog.wal.sleep", sleep)
    holder.execute("BEGIN IMMEDIATE")
    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=PATIENCE)
    await database.write(_insert)
    await database.close()
    assert len(pauses) == 5
    assert all(wal.SHORTEST <= pause <= wal.LONGEST for pause in pauses)


async def test_a_lock_that_is_never_free_is_told(
    tmp_path: Path, holder: sqlite3.Connection
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=0.05)
    with pytest.raises(CatalogUnavailable):
        await database.write(_insert)
    holder.execute("ROLLBACK")
    await database.close()


def test_only_a_lock_is_waited_for(holder: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        wal.begin(holder, "BEGIN NOTHING", PATIENCE, shortest=wal.SHORTEST)


async def test_who_is_late_syncs_behind_the_lock_and_before_anybody_is_told(
    tmp_path: Path, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        # Somebody else may write meanwhile, and sees what is being synced.
        holder.execute("BEGIN IMMEDIATE")
        synced.append(holder.execute("SELECT count(*) FROM rows").fetchone()[0])
        holder.execute("ROLLBACK")
        assert not told
        real(file)

    monkeypatch.setattr("gateway.catalog.wal.fsync", fsync)
    told: list[None] = []
    database = SqliteDatabase(
        tmp_path / "some.db", readers=1, patience=PATIENCE, share=0.5, late=True
    )
    await database.write(_insert)
    told.append(None)
    assert synced == [1]
    await database.close()


@pytest.mark.usefixtures("holder")
async def test_what_could_not_be_synced_is_not_told_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("gateway.catalog.wal.fsync", full)
    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=PATIENCE, late=True)
    with pytest.raises(CatalogUnavailable):
        await database.write(_insert)
    with pytest.raises(CatalogUnavailable):
        await database.settle()
    await database.close()


async def test_to_settle_syncs_what_others_wrote(
    tmp_path: Path, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(
        "gateway.catalog.wal.fsync", lambda file: synced.append(os.fstat(file).st_ino)
    )
    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=PATIENCE)
    holder.execute("INSERT INTO rows VALUES (2)")
    await database.settle()
    assert synced == [(tmp_path / "some.db-wal").stat().st_ino]
    await database.close()


def test_a_file_without_a_log_is_on_disk(tmp_path: Path) -> None:
    wal.sync(tmp_path / "none.db")


@pytest.mark.usefixtures("holder")
async def test_one_that_gives_way_leaves_to_the_next_transaction_what_would_make_this_one_long(
    tmp_path: Path,
) -> None:
    began: list[int] = []

    def slow(connection: Connection) -> None:
        began.append(connection.scalar(text("SELECT count(*) FROM rows")) or 0)
        connection.execute(text("INSERT INTO rows VALUES (NULL)"))
        time.sleep(0.005)

    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=PATIENCE, share=0.9)
    commits: list[None] = []
    event.listen(database._writer, "commit", lambda _: commits.append(None))
    await asyncio.gather(*(database.write(slow) for _ in range(4)))
    assert began == [0, 1, 2, 3]
    assert len(commits) == 4
    await database.close()


@pytest.mark.usefixtures("holder")
async def test_one_that_gives_way_and_is_closed_meanwhile_leaves_nobody_waiting(
    tmp_path: Path,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        time.sleep(0.005)

    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=PATIENCE, share=0.9)
    writing = [asyncio.ensure_future(database.write(slow)) for _ in range(3)]
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)  # it has begun
    go_on.set()
    ended = await asyncio.gather(*writing, return_exceptions=True)
    await closing
    assert [type(end).__name__ for end in ended] == ["NoneType", *["CatalogUnavailable"] * 2]
    assert all("closed" in str(end) for end in ended[1:])


async def test_that_nothing_is_under_a_kek_is_on_disk_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, synced = f"sqlite:///{tmp_path / 'catalog.db'}", list[int]()
    await migrate(url)
    catalog = await open_catalog(url)
    monkeypatch.setattr("gateway.catalog.wal.fsync", synced.append)
    assert not await catalog.wraps.uses("0" * 32)
    assert len(synced) == 1
    await catalog.close()
