"""Writers of one process share transactions: what that may never change for any one of them."""

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.catalog.group import MOST
from gateway.catalog.rest import LONGEST_REST
from gateway.catalog.sqlite import SqliteDatabase
from gateway.errors import CatalogUnavailable, NotFound, PreconditionFailed
from gateway.model import Tenant, new_id
from tests.contracts.catalog.samples import ABSENT, ANY, START, STORED, new_upload, put, version_of


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """Give a database with one empty table."""
    database = SqliteDatabase(tmp_path / "some.db", readers=2, patience=60.0)
    await database.write(_run("CREATE TABLE rows (n INTEGER PRIMARY KEY)"))
    yield database
    await database.close()


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    """Give a catalog in a file."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url)
    yield catalog
    await catalog.close()


@pytest.fixture
async def tenant(catalog: SqlCatalog) -> str:
    """Give the id of a tenant."""
    tenant = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(tenant)
    return tenant.id


def _run(statement: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    return work


def _insert(number: int) -> Callable[[Connection], None]:
    return _run(f"INSERT INTO rows VALUES ({number})")


def _insert_and_fail(number: int) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text(f"INSERT INTO rows VALUES ({number})"))
        raise NotFound("on purpose")

    return work


async def _rows(database: SqliteDatabase) -> list[int]:
    return await database.read(lambda c: list(c.scalars(text("SELECT n FROM rows ORDER BY n"))))


def _commits(database: SqliteDatabase) -> list[None]:
    """Return a list that gets an item with every transaction that ends well."""
    seen: list[None] = []
    event.listen(database._writer, "commit", lambda _: seen.append(None))
    return seen


def _break_commit(database: SqliteDatabase) -> Callable[[], None]:
    """Make the next commits fail, until the function that is returned is called."""

    def fail(_: Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    event.listen(database._writer, "commit", fail)
    return lambda: event.remove(database._writer, "commit", fail)


async def _all(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_those_who_write_at_once_share_transactions(database: SqliteDatabase) -> None:
    commits = _commits(database)
    await _all(*(database.write(_insert(number)) for number in range(2 * MOST)))
    assert await _rows(database) == list(range(2 * MOST))
    assert len(commits) == 2


async def test_who_fails_fails_alone(database: SqliteDatabase) -> None:
    commits = _commits(database)
    ends = await _all(
        database.write(_insert(1)),
        database.write(_insert_and_fail(2)),
        database.write(_insert(1)),
        database.write(_insert(3)),
        database.write(lambda c: c.scalar(text("SELECT count(*) FROM rows"))),
    )
    assert len(commits) == 1
    assert [type(end).__name__ for end in ends] == [
        "NoneType", "NotFound", "CatalogConflict", "NoneType", "int",
    ]  # fmt: skip
    assert ends[4] == 2  # in order, each sees what those before it did
    assert await _rows(database) == [1, 3]


async def test_a_transaction_that_fails_fails_for_all(database: SqliteDatabase) -> None:
    mend = _break_commit(database)
    ends = await _all(
        database.write(_insert(1)), database.write(_insert_and_fail(2)), database.write(_insert(3))
    )
    assert [type(end) for end in ends] == [CatalogUnavailable] * 3
    assert len({id(end) for end in ends}) == 3
    mend()
    await database.write(_insert(4))
    assert await _rows(database) == [4]


async def test_one_that_takes_the_transaction_along_fails_for_all(
    database: SqliteDatabase,
) -> None:
    def full_disk(connection: Connection) -> None:
        connection.connection.rollback()  # as SQLite does by itself then
        raise sqlite3.OperationalError("database or disk is full")

    ends = await _all(
        database.write(_insert(1)), database.write(full_disk), database.write(_insert(2))
    )
    assert [type(end) for end in ends] == [CatalogUnavailable] * 3
    await database.write(_insert(3))
    assert await _rows(database) == [3]


async def test_who_leaves_harms_nobody(database: SqliteDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        connection.execute(text("INSERT INTO rows VALUES (1)"))
        begun.set()
        go_on.wait(60)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(database.write(slow))
        with_it = tasks.create_task(database.write(_insert(2)))
        kept = tasks.create_task(database.write(_insert(3)))
        await asyncio.to_thread(begun.wait, 60)
        queued = tasks.create_task(database.write(_insert(4)))
        last = tasks.create_task(database.write(_insert(5)))
        await asyncio.sleep(0)
        for task in (running, with_it, queued):
            task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(kept, last)
    assert await _rows(database) == [1, 3, 5]  # whole where it had begun, else nothing


async def test_nobody_is_told_before_it_is_durable(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    committing, go_on = threading.Event(), threading.Event()

    def stall(_: Connection) -> None:
        committing.set()
        go_on.wait(60)

    event.listen(database._writer, "commit", stall)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(database.write(_insert(n))) for n in range(3)]
        await asyncio.to_thread(committing.wait, 60)
        assert not any(call.done() for call in calls)
        assert await _rows(database) == []
        go_on.set()
    other = sqlite3.connect(tmp_path / "some.db")
    assert len(other.execute("SELECT n FROM rows").fetchall()) == 3
    other.close()


async def test_the_end_refuses_who_waits(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=60.0)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        begun.set()
        go_on.wait(60)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(database.write(slow))
        await asyncio.to_thread(begun.wait, 60)
        waiting = tasks.create_task(_all(database.write(_insert(1))))
        await asyncio.sleep(0)
        closing = tasks.create_task(database.close())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(running, closing)
    assert isinstance(waiting.result()[0], CatalogUnavailable)
    with pytest.raises(CatalogUnavailable, match="closed"):
        await database.write(_insert(1))


async def test_uploads_that_commit_together_stay_apart(catalog: SqlCatalog, tenant: str) -> None:
    uploads = [new_upload(tenant) for _ in range(4)]
    begun = await _all(*(catalog.begin(upload, "one") for upload in uploads))
    versions = [version_of(upload, begun[0]) for upload in uploads]
    await catalog.fence(uploads[2].id)
    ends = await _all(
        catalog.commit(versions[0], STORED, ABSENT, None),
        catalog.commit(versions[1], STORED, ABSENT, None),
        catalog.commit(versions[2], STORED, ANY, None),
        catalog.commit(versions[3], STORED, ANY, None),
    )
    assert [type(end).__name__ for end in ends] == [
        "NoneType", "PreconditionFailed", "UploadLost", "NoneType",
    ]  # fmt: skip
    assert [await catalog.committed(upload.id) for upload in uploads] == [True, False, False, True]
    assert (await catalog.find(tenant, "one")).version.id == uploads[3].id


async def test_commits_that_were_lost_together_are_told_apart_from_those_that_were_not(
    catalog: SqlCatalog, tenant: str
) -> None:
    there = await put(catalog, tenant, "0")
    uploads = [new_upload(tenant) for _ in range(3)]
    versions = [version_of(u, await catalog.begin(u, f"{n}")) for n, u in enumerate(uploads)]
    database = catalog._database._database
    assert isinstance(database, SqliteDatabase)
    mend = _break_commit(database)
    ends = await _all(
        catalog.commit(versions[1], STORED, ANY, None),
        catalog.commit(versions[2], STORED, ANY, None),
        # It fails over what the first one did, which is then undone: it may not be told that it did.
        catalog.commit(versions[1], STORED, ABSENT, None),
    )
    assert [type(end) for end in ends] == [CatalogUnavailable] * 3
    mend()
    for upload in uploads:
        assert not await catalog.committed(upload.id)
    assert await catalog.committed(there.id)
    await catalog.commit(versions[1], STORED, ANY, None)
    with pytest.raises(PreconditionFailed):
        await catalog.commit(versions[0], STORED, ABSENT, None)
    assert [found.version.id for found in await catalog.list(tenant, "", None, 9)] == [
        there.id, versions[1].id,
    ]  # fmt: skip


async def test_whoever_has_a_share_rests_in_between(tmp_path: Path) -> None:
    spans: list[tuple[float, float]] = []

    def slow(connection: Connection) -> None:
        began = time.monotonic()
        connection.execute(text("SELECT 1"))
        time.sleep(0.02)
        spans.append((began, time.monotonic()))

    database = SqliteDatabase(tmp_path / "some.db", readers=1, patience=60.0, share=0.25)
    for _ in range(3):
        await database.write(slow)
    await database.close()
    for (began, ended), (following, _) in itertools.pairwise(spans):
        assert following - ended >= min(3 * (ended - began), LONGEST_REST)
