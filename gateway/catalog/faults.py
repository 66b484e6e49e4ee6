"""Where the database's errors end: nothing that a driver raises leaves the catalog.

A driver's text may quote values, so it is dropped; its class and SQLSTATE say enough to look it
up in the database's own log.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from gateway.errors import CatalogConflict, CatalogError, CatalogUnavailable

RETRY_AFTER = 1.0
DRIVER_ERRORS = (
    SQLAlchemyError,
    sqlite3.Error,
    OSError,  # TimeoutError is one of them
    EOFError,
    OverflowError,  # an integer beyond 64 bits, from SQLite
)
_BROKEN_RULE = (IntegrityError, sqlite3.IntegrityError)  # of what runs in the driver alone
_FOREIGN_KEY_VIOLATED = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")


@contextmanager
def driver_faults(errors: tuple[type[Exception], ...] = DRIVER_ERRORS) -> Iterator[None]:
    """Turn every error of SQLAlchemy, a driver or a socket into a `CatalogError`.

    Of the drivers it knows SQLite's; `errors` says which there are besides.
    """
    try:
        yield
    except errors as error:
        raise translated(error) from None


@contextmanager
def parent_missing(instead: Exception) -> Iterator[None]:
    """Raise `instead` when a row refers to one that is not there."""
    try:
        yield
    except _BROKEN_RULE as error:
        if code(error) in _FOREIGN_KEY_VIOLATED:
            raise instead from None
        raise


def translated(error: Exception) -> CatalogError:
    """Return what the gateway is told instead of a driver's error."""
    if isinstance(error, (*_BROKEN_RULE, OverflowError)):
        return CatalogConflict(f"the row exists already or breaks a rule ({code(error)})")
    name = code(error) or type(error).__name__
    return CatalogUnavailable(f"the database did not answer ({name})", retry_after=RETRY_AFTER)


def code(error: Exception) -> str:
    """Return the SQLSTATE of PostgreSQL, the error name of SQLite, or nothing."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(origin, "sqlstate", None) or getattr(origin, "sqlite_errorname", None)
    return name if isinstance(name, str) else ""
