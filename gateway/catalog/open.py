"""Opening and migrating the database that a URL names.

`sqlite:////absolute/path` or `sqlite:///relative/path` is a file; `postgresql://...` is libpq's
connection URI with all its parameters (several hosts, `sslmode`, `sslrootcert`).
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from gateway.catalog import schema
from gateway.catalog.clock import Clock, database_time
from gateway.catalog.database import Database
from gateway.catalog.sql import SqlCatalog
from gateway.catalog.sqlite import SqliteDatabase

CONNECTIONS = 10
SERVER_PATIENCE = 1.8  # the gateway has to answer 503 within two seconds
FILE_PATIENCE = 10.0  # nothing can be down: a call waits for a slow disk, or for another process
_MIGRATION_PATIENCE = 600.0


async def open_catalog(
    url: str,
    *,
    connections: int = CONNECTIONS,
    patience: float | None = None,
    share: float = 1.0,
    late: bool = False,
    clock: Clock = database_time,
) -> SqlCatalog:
    """Open a catalog whose schema is current; a call waits `patience` seconds for an answer.

    `share` is the part of the time in which this process may write, where others come first. With `late` it
    makes what it wrote to a SQLite file durable after others can see it, still before it is told.

    `connections` bounds PostgreSQL's pool, or how many read a SQLite file at once.
    Raises CatalogUnavailable when the database does not answer or has to be migrated first, and
    ValueError when the URL names no database that is known.
    """
    database = await asyncio.to_thread(
        _database, url, connections, patience, share=share, late=late
    )
    catalog = SqlCatalog(database, clock)
    try:
        await catalog.check()
    except BaseException:
        await catalog.close()
        raise
    return catalog


async def migrate(url: str) -> None:
    """Create the tables, or bring them up to date. Safe to repeat and to run in several places."""
    upgrade = await asyncio.to_thread(_upgrade)
    database = await asyncio.to_thread(_database, url, 1, _MIGRATION_PATIENCE)
    try:
        await database.write(upgrade)
    finally:
        await database.close()


def _upgrade() -> Callable[[Connection], None]:
    from gateway.catalog import revisions  # noqa: PLC0415 - serving does without Alembic's 10 MiB

    revisions.scripts()
    return revisions.upgrade


def _database(
    url: str, connections: int, patience: float | None, *, share: float = 1.0, late: bool = False
) -> Database:
    schema.known()  # read here, off the event loop
    # The URL holds a password, so no message quotes it.
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("the catalog's url must begin with sqlite:// or postgresql://")
    if re.fullmatch(r"postgres(ql)?(\+asyncpg)?", scheme):
        from gateway.catalog.postgres import PostgresDatabase  # noqa: PLC0415 - SQLite spares 9 MiB

        return PostgresDatabase(
            f"postgresql://{rest}",
            connections=connections,
            patience=SERVER_PATIENCE if patience is None else patience,
            share=share,
        )
    if re.fullmatch(r"sqlite(\+\w+)?", scheme):
        path = rest.removeprefix("/")
        if not path or not rest.startswith("/") or path == ":memory:":
            raise ValueError("the catalog's url must name a file: sqlite:////absolute/path")
        return SqliteDatabase(
            Path(path),
            readers=connections,
            patience=FILE_PATIENCE if patience is None else patience,
            share=share,
            late=late,
        )
    raise ValueError(f"the catalog cannot be kept in {scheme}: use sqlite:// or postgresql://")
