"""What the catalog needs of a database: to run a function over a connection in a transaction."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Database(Protocol):
    """Runs work; raises `CatalogError`s and whatever the work raises on purpose."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that writes nothing; it may be run again when a connection breaks."""

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in one transaction, durable when this returns, rolled back when work raises.

        It may be run again, but only while it certainly left nothing. When the answer to its commit
        is lost, CatalogUnavailable is raised and the work may or may not have happened.
        """

    async def close(self) -> None:
        """Give back connections. Idempotent."""
