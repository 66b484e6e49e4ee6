"""The catalog on SQLite: one file, one writer at a time, any number of readers.

A transaction runs undivided in a thread, so a cancelled call leaves it whole or, if it had not begun,
undone. Writers of this process share transactions (`group`) in one thread, hence SQLite's own lock is
contended by other processes only; those are waited for. What `write` returned for is on disk
(`synchronous=FULL`). A glance runs on the event loop, because it takes less time there than the way to a
thread, unless one had to wait for the disk a moment ago. The file must be on a local disk, as WAL demands.
"""

import asyncio
import math
import os
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from gateway.catalog import wal
from gateway.catalog.database import Session
from gateway.catalog.faults import driver_faults
from gateway.catalog.group import Group, together
from gateway.errors import CatalogUnavailable

T = TypeVar("T")

_CACHED_STATEMENTS = 256
_STEP = 600.0
SLOW = 0.005  # seconds that the event loop is never held for longer, if it can be helped
TURN = 0.004  # seconds after which one that gives way begins nothing more in a transaction
CHECKPOINT = (
    500  # pages in the log, after which one that gives way moves them: half of SQLite's own
)
REST = 1.0  # seconds without a glance after one that waited for the disk
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # the latter on macOS
_creating = threading.Lock()  # nobody connects between the creation of a file and its close


class SqliteDatabase:
    """Runs work on a SQLite file. `patience` bounds in seconds what a call waits for.

    `share` is the part of the time in which it may hold the file's lock, where others come first, and for
    some milliseconds only. With `late` it syncs what it wrote behind the lock: that nobody waits for the
    disk, others may see what a loss of power undoes. So it is for work that is done anew then, and whose
    traces `settle` waits for wherever somebody acts on them for good.
    """

    def __init__(
        self, path: Path, *, readers: int, patience: float, share: float = 1.0, late: bool = False
    ) -> None:
        self._path = path
        self._patience = patience
        read_only = ["PRAGMA query_only = ON"]
        apart = ["PRAGMA busy_timeout = 0"]  # `wal` asks for the lock
        if gives_way := share < 1:  # nobody else has to move what it leaves in the log
            apart.append(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        if late:
            apart.append("PRAGMA synchronous = NORMAL")  # `wal` syncs it
        self._writer = _engine(path, 1, patience, begin=None, settings=apart)
        ask = partial(_ask, patience, wal.LONGEST if gives_way else wal.SHORTEST)
        event.listen(self._writer, "begin", ask)
        self._reader = _engine(path, readers, patience, begin="BEGIN", settings=read_only)
        self._glancer = _engine(path, 1, 0, begin="BEGIN", settings=read_only)
        self._glancing: Connection | None = None
        self._connecting = threading.Lock()
        self._no_glance_before = 0.0
        self._group = Group(
            partial(together, self._writer, longest=TURN if gives_way else math.inf),
            settle=partial(wal.sync, path) if late else None,
            share=share,
        )
        self._read_threads = ThreadPoolExecutor(readers, "catalog-read")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.read`, on one snapshot."""
        with driver_faults():
            async with asyncio.timeout(self._patience):
                loop, transaction = asyncio.get_running_loop(), partial(_read, self._reader, work)
                return await loop.run_in_executor(self._read_threads, transaction)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.glance`, on one snapshot."""
        began, blocks = time.monotonic(), _blocks_read()
        if began < self._no_glance_before:
            return await self.read(work)
        try:
            with driver_faults():
                if self._glancing is None:
                    return _look(await asyncio.to_thread(self._connected), work)
                return _look(self._glancing, work)
        except CatalogUnavailable:  # somebody has a lock: waiting is for threads
            return await self.read(work)
        finally:
            ended = time.monotonic()
            if ended - began > SLOW and _blocks_read() > blocks:
                self._no_glance_before = ended + REST

    async def settle(self) -> None:
        """Implement `Database.settle`: others sync what they commit after it can be seen."""
        with driver_faults():
            await asyncio.to_thread(wal.sync, self._path)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.write`, in order."""
        with driver_faults():
            async with asyncio.timeout(self._patience):
                return await self._group.run(work)

    @asynccontextmanager
    async def session(self, *, write: bool) -> AsyncIterator[Session]:
        """Implement `Database.session`, in a thread of its own."""
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        engine = _engine(self._path, 1, self._patience, begin=begin, settings=[])
        thread = ThreadPoolExecutor(1, "catalog-session")
        session = _Session(thread, engine)
        try:
            await session.begin()
            yield session
            await session.commit()
        finally:
            await session.close()
            await asyncio.to_thread(thread.shutdown)

    async def close(self) -> None:
        """Implement `Database.close`, after what runs."""
        await self._group.close()
        await asyncio.to_thread(self._read_threads.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._disconnect)

    def _connected(self) -> Connection:
        """Connect for glances, which takes longer than they do. For threads."""
        with self._connecting:
            connection = self._glancing or self._glancer.connect()
            self._glancing = connection
            return connection

    def _disconnect(self) -> None:
        if self._glancing is not None:
            self._glancing.close()
            self._glancing = None
        for engine in (self._glancer, self._reader, self._writer):
            engine.dispose()


class _Session:
    """One connection in one thread, which ends what it was told even if nobody waits for it."""

    def __init__(self, thread: ThreadPoolExecutor, engine: Engine) -> None:
        self._thread = thread
        self._engine = engine
        self._connection: Connection | None = None

    async def begin(self) -> None:
        def begin() -> None:
            self._connection = self._engine.connect()
            self._connection.begin()
            # A snapshot is taken by the first read only.
            self._connection.exec_driver_sql("SELECT 1 FROM sqlite_master").close()

        await self._do(begin)

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await self._do(lambda: work(self._open()))

    async def commit(self) -> None:
        await self._do(lambda: self._open().commit())

    async def close(self) -> None:
        def close() -> None:
            if self._connection is not None:
                self._connection.close()
            self._engine.dispose()

        await self._do(close)

    def _open(self) -> Connection:
        if self._connection is None:
            raise CatalogUnavailable("the session has not begun")
        return self._connection

    async def _do(self, work: Callable[[], T]) -> T:
        with driver_faults():
            async with asyncio.timeout(_STEP):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _blocks_read() -> int:
    """Return how often this thread had to ask the disk. A busy processor is no reason for a thread."""
    return resource.getrusage(_THREAD).ru_inblock


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _look(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Read on the event loop, which may block for as long as a few pages take that are in memory."""
    driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    driver.execute("BEGIN")
    try:
        return work(connection)
    finally:
        connection.rollback()
        driver.rollback()


def _engine(
    path: Path, connections: int, patience: float, *, begin: str | None, settings: list[str]
) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=partial(_connect, path, patience, settings),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )
    if begin is not None:
        event.listen(engine, "begin", partial(_begin, begin))
    return engine


def _begin(statement: str, connection: Connection) -> None:
    driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    if not driver.in_transaction:
        driver.execute(statement)


def _ask(patience: float, shortest: float, connection: Connection) -> None:
    driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    if not driver.in_transaction:
        wal.begin(driver, "BEGIN IMMEDIATE", patience, shortest=shortest)


def _connect(path: Path, patience: float, settings: list[str]) -> sqlite3.Connection:
    _create(path)
    connection = sqlite3.connect(
        path,
        timeout=patience,
        isolation_level=None,  # transactions begin where SQLAlchemy says, and how we say
        check_same_thread=False,  # the pool lends a connection to one thread at a time
        cached_statements=_CACHED_STATEMENTS,
    )
    try:
        for setting in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA fullfsync = ON",  # a plain fsync on macOS does not reach the disk
            "PRAGMA foreign_keys = ON",
            *settings,
        ):
            connection.execute(setting).close()
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Create the file if it is not there, for this account only: references may mean something.

    A file that is there is not opened. To close it would end every lock that this process has on it, and
    another process that leaves would then take the write-ahead log away under our connections.
    """
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
