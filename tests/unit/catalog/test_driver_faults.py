"""Every error that SQLAlchemy, a driver or a socket can raise ends as a catalog error."""

import sqlite3
import traceback
from collections.abc import Iterator

import asyncpg
import pytest
import sqlalchemy.exc
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.catalog.faults import parent_missing
from gateway.catalog.postgres import server_faults
from gateway.errors import CatalogConflict, CatalogError, CatalogUnavailable, NotFound

SECRET = "canary-51f0"
MODULES = {"asyncio", "asyncpg", "builtins", "socket", "sqlalchemy", "sqlite3", "ssl"}
PRODUCERS = [
    sqlalchemy.exc.SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
]


def _kinds(base: type[BaseException]) -> Iterator[type[BaseException]]:
    if base.__module__.partition(".")[0] in MODULES:
        yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _made(kind: type[BaseException]) -> BaseException:
    """Make an error without its constructor, which every driver shapes in its own way."""
    error = kind.__new__(kind, SECRET)
    error.args = (SECRET,)
    if isinstance(error, DBAPIError):
        error.orig = sqlite3.Error(SECRET)
    return error


@pytest.mark.parametrize("producer", PRODUCERS, ids=lambda p: p.__name__)
def test_none_escapes(producer: type[Exception]) -> None:
    for kind in _kinds(producer):
        with pytest.raises(CatalogError) as caught, server_faults():
            raise _made(kind)
        assert isinstance(caught.value, (CatalogUnavailable, CatalogConflict)), kind
        assert SECRET not in "".join(traceback.format_exception(caught.value)), kind


def test_every_error_of_asyncpg_has_a_known_root() -> None:
    public = [getattr(asyncpg.exceptions, name) for name in asyncpg.exceptions.__all__]
    roots = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    errors = [e for e in public if issubclass(e, Exception) and not issubclass(e, Warning)]
    logged = (asyncpg.PostgresLogMessage,)
    assert [e for e in errors if not issubclass(e, (*roots, *logged))] == []


def test_conflicts_are_told_from_outages() -> None:
    taken = IntegrityError("INSERT", {}, sqlite3.IntegrityError(SECRET))
    with pytest.raises(CatalogConflict), server_faults():
        raise taken
    with pytest.raises(CatalogUnavailable) as caught, server_faults():
        raise sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(SECRET))
    assert caught.value.retry_after


@pytest.mark.parametrize("error", [NotFound("x"), CatalogConflict("x"), KeyError("x")])
def test_what_is_no_drivers_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, server_faults():
        raise error
    assert caught.value is error


def test_missing_parent_is_told_from_a_taken_key() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE p (id PRIMARY KEY);"
        "CREATE TABLE c (p REFERENCES p (id)); INSERT INTO p VALUES (1);"
    )
    with pytest.raises(NotFound), parent_missing(NotFound("no parent")):
        _execute(database, "INSERT INTO c VALUES (2)")
    with pytest.raises(IntegrityError), parent_missing(NotFound("no parent")):
        _execute(database, "INSERT INTO p VALUES (1)")
    database.close()


def _execute(database: sqlite3.Connection, statement: str) -> None:
    try:
        database.execute(statement)
    except sqlite3.IntegrityError as error:
        raise IntegrityError(statement, {}, error) from error
