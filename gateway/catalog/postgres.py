"""The catalog on PostgreSQL: a bounded pool, bounded waits, and a retry where it is safe.

Work runs in READ COMMITTED and takes the row locks that it needs. A transaction that PostgreSQL
undid (deadlock, serialization), or whose connection was lost before its commit was sent, is run
again while patience lasts; one whose commit went unanswered never is. Reads run without a
transaction, one round trip a statement: each is written so that this makes no difference.

Callers beyond the pool's size queue, in order. While the server answers, only `_QUEUE` bounds their
wait, so that a burst is served and no finished upload is lost to it; when it falls silent, all
who were waiting learn that at once.

The DSN is libpq's, several hosts included; only a server that takes writes is used, so after
a failover the new primary is found.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection, ExceptionContext, NullPool, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncTransaction,
    create_async_engine,
)

from gateway.catalog.database import Session
from gateway.catalog.faults import DRIVER_ERRORS, RETRY_AFTER, code, driver_faults, translated
from gateway.catalog.rest import rest
from gateway.catalog.transport import transport
from gateway.errors import CatalogUnavailable

T = TypeVar("T")
SERVER_ERRORS = (
    *DRIVER_ERRORS,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
server_faults = partial(driver_faults, SERVER_ERRORS)

_UNDONE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
# The server is going away, not up yet, or no longer the primary.
_SERVER_LEFT = frozenset({"57P01", "57P02", "57P03", "25006"})
_CONNECTION_LOST = "08"
_NOT_CONNECTED = (OSError, asyncpg.TargetServerAttributeNotMatched)
_ATTEMPTS = 5
_PAUSE = 0.05
_QUEUE = 30.0
_STEP = 600.0
_IDLE = 3600.0  # between two steps of a session
_LAST_WORD = 0.1  # between cutting a connection and giving up on what it raises


class PostgresDatabase:
    """Runs work on PostgreSQL. `patience` bounds in seconds what a call waits for the server.

    `share` is the part of the time in which this process may write, where others come first: with less than
    all of it, it has one transaction at a time, and rests after each in proportion to how long that took.
    The constructor reads the certificates that the DSN names, and raises ValueError.
    """

    def __init__(self, dsn: str, *, connections: int, patience: float, share: float = 1.0) -> None:
        self._dsn = dsn
        self._tls = transport(dsn)
        self._turns = asyncio.Semaphore(connections)
        self._fell_silent = -math.inf
        self._patience = patience
        self._share = share
        self._rested_at = -math.inf
        self._alone = asyncio.Lock()
        self._writer: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(self._connect, patience * 0.8, patience * 2),
            pool_size=connections,
            max_overflow=0,
            pool_use_lifo=True,  # what a quiet hour does not need goes idle
            hide_parameters=True,
        )
        event.listen(self._writer.sync_engine, "handle_error", _drop_the_pool)
        self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.read`."""
        return await self._run(self._reader, work)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.glance`."""
        return await self._run(self._reader, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.write`."""
        if self._share == 1:
            return await self._run(self._writer, work)
        async with self._alone:
            clock = asyncio.get_running_loop().time
            await asyncio.sleep(self._rested_at - clock())
            began = clock()
            try:
                return await self._run(self._writer, work)
            finally:
                ended = clock()
                self._rested_at = ended + rest(ended - began, self._share)

    async def settle(self) -> None:
        """Implement `Database.settle`: nothing is seen here before it is durable."""

    @asynccontextmanager
    async def session(self, *, write: bool) -> AsyncIterator[Session]:
        """Implement `Database.session`; one that only reads holds up nobody."""
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(self._connect, _STEP, _IDLE),
            poolclass=NullPool,
            hide_parameters=True,
        )
        try:
            with server_faults():
                connection = await engine.connect()
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=not write
                )
                transaction = await connection.begin()
            try:
                yield _Session(connection)
                with server_faults():
                    await transaction.commit()
            finally:
                with server_faults():
                    await connection.close()  # which undoes what was not committed
        finally:
            await engine.dispose()

    async def close(self) -> None:
        """Implement `Database.close`."""
        with server_faults():
            await self._writer.dispose()

    async def _run(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        with server_faults():
            async with self._turn():
                try:
                    return await self._try(engine, work)
                except _NOT_CONNECTED:
                    self._fell_silent = asyncio.get_running_loop().time()
                    raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        asked = asyncio.get_running_loop().time()
        async with asyncio.timeout(_QUEUE):
            await self._turns.acquire()
        try:
            if self._fell_silent > asked:
                raise CatalogUnavailable("the database fell silent", retry_after=RETRY_AFTER)
            yield
        finally:
            self._turns.release()

    async def _try(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        deadline = asyncio.get_running_loop().time() + self._patience
        async with asyncio.timeout_at(deadline + _LAST_WORD):
            for attempt in range(1, _ATTEMPTS):
                try:
                    return await _transaction(engine, work, deadline)
                except (DBAPIError, asyncpg.PostgresError, *_NOT_CONNECTED) as error:
                    if not _left_nothing(error):
                        raise
                await asyncio.sleep(_PAUSE * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
            return await _transaction(engine, work, deadline)

    async def _connect(self, statement: float, idle: float) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            ssl=self._tls,
            timeout=self._patience,
            target_session_attrs="read-write",
            server_settings={
                "application_name": "sealgate",
                # Below the deadline, so that a slow statement is told from a silent server.
                "statement_timeout": str(round(statement * 1000)),
                "idle_in_transaction_session_timeout": str(round(idle * 1000)),
            },
        )


class _Session:
    """One connection in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], T]) -> T:
        with server_faults():
            async with asyncio.timeout(_STEP):
                return await self._connection.run_sync(work)


async def _transaction(engine: AsyncEngine, work: Callable[[Connection], T], deadline: float) -> T:
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        # Cut rather than cancelled: a server that says nothing would keep us for its goodbye.
        expiry = asyncio.get_running_loop().call_at(deadline, _cut, raw.driver_connection)
        try:
            transaction = await connection.begin()
            result = await connection.run_sync(work)
            await _commit(transaction)
        finally:
            expiry.cancel()
        return result


async def _commit(transaction: AsyncTransaction) -> None:
    try:
        await transaction.commit()
    except SERVER_ERRORS as error:
        if code(error) in _UNDONE:
            raise
        raise translated(error) from None  # no longer a driver's error: never tried again


def _cut(connection: asyncpg.Connection) -> None:
    connection.terminate()


def _left_nothing(error: Exception) -> bool:
    """Tell whether work that ended so, before its commit was sent, is worth another try."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    known = code(error)
    if known:
        return known in _UNDONE | _SERVER_LEFT or known.startswith(_CONNECTION_LOST)
    return isinstance(error, _NOT_CONNECTED)


def _drop_the_pool(context: ExceptionContext) -> None:
    """Make SQLAlchemy replace all its connections when the server sends us away."""
    original = context.original_exception
    if isinstance(original, Exception) and code(original) in _SERVER_LEFT:
        context.is_disconnect = True
