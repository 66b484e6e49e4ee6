"""What the catalog needs of a database: to run a function over a connection in a transaction."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from gateway.errors import CatalogUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Session(Protocol):
    """A transaction in many steps."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run one step. It is never run again."""


class Database(Protocol):
    """Runs work; raises `CatalogError`s and whatever the work raises on purpose."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that writes nothing; it may be run again when a connection breaks."""

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Read a row or two by their keys: like `read`, and so little that no thread is worth it."""

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in one transaction, durable when this returns, undone when work raises.

        Others may share the transaction: what they do is kept apart, but it comes true together.
        It may be run again, but only while it certainly left nothing. When the answer to its commit
        is lost, CatalogUnavailable is raised and the work may or may not have happened.
        """

    def session(self, *, write: bool) -> AbstractAsyncContextManager[Session]:
        """Open a transaction over all that the block runs: one snapshot, on a connection of its own.

        One that writes is durable when the block ends, and rolled back when it raises. It may take as
        long as it likes, while each step must end within ten minutes.
        """

    async def settle(self) -> None:
        """Return when all that was read so far is durable, whoever wrote it."""

    async def close(self) -> None:
        """Give back connections. Idempotent."""


class Shared:
    """A database that several ports have in common, until one closes it for all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.read`; raises CatalogUnavailable once it is closed."""
        return await self._open().read(work)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.glance`; raises CatalogUnavailable once it is closed."""
        return await self._open().glance(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.write`; raises CatalogUnavailable once it is closed."""
        return await self._open().write(work)

    def session(self, *, write: bool) -> AbstractAsyncContextManager[Session]:
        """Implement `Database.session`; raises CatalogUnavailable once it is closed."""
        return self._open().session(write=write)

    async def settle(self) -> None:
        """Implement `Database.settle`; raises CatalogUnavailable once it is closed."""
        await self._open().settle()

    async def close(self) -> None:
        """Implement `Database.close`."""
        self._closed = True
        await self._database.close()

    def _open(self) -> Database:
        if self._closed:
            raise CatalogUnavailable("the catalog is closed")
        return self._database


def bound(
    work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Callable[[Connection], T]:
    """Return work that has everything but its connection."""
    return lambda connection: work(connection, *args, **kwargs)
