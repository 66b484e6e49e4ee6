"""PostgreSQL under strain: lost connections and answers, deadlocks, failovers, and silence."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, text

from gateway.catalog import migrate, open_catalog
from gateway.catalog.postgres import PostgresDatabase
from gateway.errors import CatalogUnavailable, UploadLost
from gateway.model import Tenant, new_id
from tests.contracts.catalog.samples import ANY, START, STORED, new_upload, put, version_of
from tests.service.http.eventually import eventually
from tests.unit.catalog.cut import When, cut

PATIENCE = 20.0


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[PostgresDatabase]:
    """Give a database with two rows to quarrel about."""
    database = PostgresDatabase(postgres_dsn, connections=4, patience=PATIENCE)
    await database.write(_run("CREATE TABLE rows AS SELECT n, 0 AS v FROM generate_series(1, 2) n"))
    yield database
    await database.close()


def _run(statement: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    return work


def _asks(question: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.scalar(text(question))


def _fails(times: int, sqlstate: str) -> tuple[Callable[[Connection], int], list[int]]:
    tries: list[int] = []

    def work(connection: Connection) -> int:
        tries.append(connection.scalar(text("SELECT pg_backend_pid()")))
        connection.execute(text("UPDATE rows SET v = v + 1 WHERE n = 1"))
        if len(tries) <= times:
            raised = f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$"
            connection.exec_driver_sql(raised)
        return len(tries)

    return work, tries


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_undone_work_is_done_again(database: PostgresDatabase, sqlstate: str) -> None:
    work, tries = _fails(2, sqlstate)
    assert await database.write(work) == len(tries) == 3
    assert await database.read(_asks("SELECT v FROM rows WHERE n = 1")) == 1


async def test_tries_are_bounded(postgres_dsn: str, database: PostgresDatabase) -> None:
    del database  # which made the table
    impatient = PostgresDatabase(postgres_dsn, connections=1, patience=PATIENCE)
    work, tries = _fails(10**6, "40001")
    with pytest.raises(CatalogUnavailable):
        await impatient.write(work)
    assert 2 <= len(tries) <= 6
    await impatient.close()


async def test_other_errors_are_not_tried_again(database: PostgresDatabase) -> None:
    work, tries = _fails(1, "22012")
    with pytest.raises(CatalogUnavailable):
        await database.write(work)
    assert len(tries) == 1


@pytest.mark.parametrize("sqlstate", ["25006", "57P01"])
async def test_server_that_sends_us_away_is_left(database: PostgresDatabase, sqlstate: str) -> None:
    work, tries = _fails(1, sqlstate)
    await database.write(work)
    assert len(set(tries)) == 2  # on a new connection


async def test_whoever_has_a_share_writes_alone_and_rests_in_between(
    postgres_dsn: str, database: PostgresDatabase
) -> None:
    """Whoever serves requests on the same server finds it free for most of the time."""
    del database  # which made the table
    modest = PostgresDatabase(postgres_dsn, connections=4, patience=PATIENCE, share=0.25)
    turns: list[tuple[float, float]] = []

    def work(connection: Connection) -> None:
        began = time.monotonic()
        connection.execute(text("SELECT pg_sleep(0.02)"))
        turns.append((began, time.monotonic()))

    await asyncio.gather(*(modest.write(work) for _ in range(3)))
    await modest.close()
    rests = [later[0] - sooner[1] for sooner, later in itertools.pairwise(turns)]
    assert min(rests) >= 3 * 0.02


async def test_real_deadlock(database: PostgresDatabase) -> None:
    def locks(first: int, second: int) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
            for n in (first, second):
                connection.execute(text(f"UPDATE rows SET v = v + 1 WHERE n = {n}"))
                connection.execute(text("SELECT pg_sleep(0.05)"))

        return work

    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(locks(1, 2)))
        group.create_task(database.write(locks(2, 1)))
    assert await database.read(_asks("SELECT min(v) FROM rows")) == 2


async def test_dropped_connections_are_not_noticed(
    postgres_dsn: str, database: PostgresDatabase
) -> None:
    for _ in range(3):
        await asyncio.gather(*(database.read(_run("SELECT pg_sleep(0.05)")) for _ in range(4)))
        await _drop_everyone(postgres_dsn)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(database.write(_run("UPDATE rows SET v = v + 1 WHERE n = 1")))
                group.create_task(database.read(_run("SELECT 1")))
    assert await database.read(_asks("SELECT v FROM rows WHERE n = 1")) == 12


async def test_dropped_while_it_works(postgres_dsn: str, database: PostgresDatabase) -> None:
    tries: list[int] = []
    begun = asyncio.Event()

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("UPDATE rows SET v = v + 1 WHERE n = 1"))
        begun.set()
        connection.execute(text("SELECT pg_sleep(:s)"), {"s": 0 if len(tries) > 1 else 10})

    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(work))
        await begun.wait()
        await asyncio.sleep(0.1)
        await _drop_everyone(postgres_dsn)
    assert len(tries) == 2
    assert await database.read(_asks("SELECT v FROM rows WHERE n = 1")) == 1


@pytest.mark.parametrize("when", When)
async def test_lost_answer_of_a_commit(postgres_dsn: str, when: When) -> None:
    await migrate(postgres_dsn)
    async with cut(postgres_dsn) as (proxy, dsn):
        catalog = await open_catalog(dsn, patience=PATIENCE)
        tenant = Tenant(new_id(), "standard", START)
        await catalog.add_tenant(tenant)
        upload = new_upload(tenant.id)
        version = version_of(upload, await catalog.begin(upload, "a"))
        proxy.armed = when
        with pytest.raises(CatalogUnavailable):
            await catalog.commit(version, STORED, ANY, None)
        assert await catalog.committed(upload.id) == (when is When.AFTER)
        if when is When.AFTER:
            assert not await catalog.fence(upload.id)
            with pytest.raises(UploadLost):
                await catalog.commit(version, STORED, ANY, None)
        else:
            await catalog.commit(version, STORED, ANY, None)
        assert (await catalog.find(tenant.id, "a")).version == version
        await catalog.close()


async def test_committed_waits_for_a_commit_under_way(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    catalog = await open_catalog(postgres_dsn, patience=PATIENCE)
    tenant = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(tenant)
    version = await put(catalog, tenant.id, "a")
    upload = new_upload(tenant.id)
    await catalog.begin(upload, "a")
    other = await asyncpg.connect(postgres_dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("DELETE FROM uploads WHERE id = $1", upload.id)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(catalog.committed(upload.id))
        fenced = group.create_task(catalog.fence(upload.id))
        await asyncio.sleep(0.2)
        assert not asked.done()
        assert not fenced.done()
        became = "UPDATE versions SET id = $1 WHERE blob = $2 RETURNING 1"
        assert await other.fetchval("DELETE FROM replicas RETURNING 1")
        assert await other.fetchval(became, upload.id, version.blob)
        await transaction.commit()
    assert asked.result()
    assert not fenced.result()
    await other.close()
    await catalog.close()


async def test_cancelled_work_is_undone(postgres_dsn: str, database: PostgresDatabase) -> None:
    work = "WITH w AS (UPDATE rows SET v = 9 RETURNING 1) SELECT pg_sleep(30), count(*) FROM w"
    for _ in range(6):  # more often than there are connections
        task = asyncio.ensure_future(database.write(_run(work)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await database.write(_run("UPDATE rows SET v = v + 1"))
    assert await database.read(_asks("SELECT max(v) FROM rows")) == 1

    async def gone() -> bool:  # the server notices in its own time that a client has left
        return await _others(postgres_dsn) <= 4

    await eventually(gone)


async def test_pool_is_bounded(postgres_dsn: str, database: PostgresDatabase) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(database.read(_run("SELECT pg_sleep(0.2)")))
        await asyncio.sleep(0.1)
        assert await _others(postgres_dsn) <= 4


async def test_statement_that_takes_too_long(postgres_dsn: str) -> None:
    impatient = PostgresDatabase(postgres_dsn, connections=1, patience=0.3)
    before = time.monotonic()
    with pytest.raises(CatalogUnavailable):
        await impatient.write(_run("SELECT pg_sleep(100)"))
    assert time.monotonic() - before < 60
    await impatient.close()

    async def gone() -> bool:
        return await _others(postgres_dsn) == 0

    await eventually(gone)


@pytest.fixture
def silent() -> Iterator[int]:
    """Give a port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_server_that_says_nothing(silent: int) -> None:
    before = time.monotonic()
    with pytest.raises(CatalogUnavailable) as caught:
        await open_catalog(f"postgresql://user:secret@127.0.0.1:{silent}/db", patience=0.5)
    assert time.monotonic() - before < 60
    assert "secret" not in repr(caught.value)


async def test_server_that_falls_silent(postgres_dsn: str) -> None:
    async with cut(postgres_dsn) as (proxy, dsn):
        database = PostgresDatabase(dsn, connections=2, patience=0.5)

        async def answers() -> bool:
            with contextlib.suppress(
                CatalogUnavailable
            ):  # on a busy machine it may not wait enough
                await database.write(_run("SELECT 1"))
                return True
            return False

        await eventually(answers)
        proxy.silent = True
        for call in (database.write, database.read):
            before = time.monotonic()
            asked = (call(_run("SELECT 1")) for _ in range(120))  # far more than can be tried
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, CatalogUnavailable) for answer in told)
            assert time.monotonic() - before < 15  # one after the other they would need 30
        proxy.silent = False
        await eventually(answers)
        await database.close()


async def test_burst_is_served(postgres_dsn: str) -> None:
    database = PostgresDatabase(postgres_dsn, connections=1, patience=3.0)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):  # four seconds of work
            group.create_task(database.write(_run("SELECT pg_sleep(0.2)")))
    await database.close()


async def test_slow_statement_fails_alone(postgres_dsn: str) -> None:
    database = PostgresDatabase(postgres_dsn, connections=2, patience=3.0)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(_refused(database, "SELECT pg_sleep(30)"))
        for _ in range(6):
            group.create_task(database.write(_run("SELECT pg_sleep(0.1)")))
    assert "57014" in str(slow.result())
    await database.close()


async def _refused(database: PostgresDatabase, statement: str) -> CatalogUnavailable:
    with pytest.raises(CatalogUnavailable) as caught:
        await database.write(_run(statement))
    return caught.value


async def test_server_that_is_down(unused_tcp_port: int) -> None:
    before = time.monotonic()
    with pytest.raises(CatalogUnavailable):
        await open_catalog(f"postgresql://user:secret@127.0.0.1:{unused_tcp_port}/db")
    assert time.monotonic() - before < 60


async def test_wrong_password(postgres_dsn: str) -> None:
    wrong = postgres_dsn.replace("postgres:", "postgres:wrong")
    with pytest.raises(CatalogUnavailable, match="28P01"):
        await open_catalog(wrong, patience=PATIENCE)


async def test_no_locale_has_a_say(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    connection = await asyncpg.connect(postgres_dsn)
    compared = await connection.fetch(
        "SELECT DISTINCT table_name || '.' || column_name AS place, collation_name"
        " FROM information_schema.key_column_usage JOIN information_schema.columns"
        " USING (table_schema, table_name, column_name)"
        " WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')"
        " AND table_name <> 'alembic_version'"
    )
    reference = "SELECT pg_get_indexdef('uq_attachments_live_reference'::regclass)"
    assert "(tenant, reference) WHERE (deleted IS NULL)" in await connection.fetchval(reference)
    await connection.close()
    assert {row["collation_name"] for row in compared} == {"C"}
    assert len(compared) > 10


async def _drop_everyone(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
    await connection.close()


async def _others(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    count = await connection.fetchval(f"SELECT count(*) {_OTHERS}")
    await connection.close()
    assert isinstance(count, int)
    return count


_OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
