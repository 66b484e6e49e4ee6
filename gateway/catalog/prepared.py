"""Statements that are built once, for what every request asks of the catalog.

Guarantees that one definition serves both databases. On PostgreSQL SQLAlchemy runs it, which finds what it
compiled in its cache. On SQLite, which answers in less time than SQLAlchemy takes to ask, it is compiled
once and handed to the driver, with the values and the columns turned as the tables say. What is asked
seldom is written where it is used and goes through SQLAlchemy alone.
"""

import json
import sqlite3
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    Insert,
    Select,
    Text,
    TypeDecorator,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import UpdateBase

_SQLITE = sqlite.dialect(paramstyle="qmark")


class _Listed(TypeDecorator[Sequence[str]]):
    """Several ids as one value, since the number of a statement's values is fixed."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str | None:
        """Turn ids into what `json_each` takes."""
        del dialect
        return None if value is None else json.dumps(list(value))


def any_of(column: Column[str], name: str, *, on_sqlite: bool) -> ColumnElement[bool]:
    """Compare a column with each of several ids, which are one value `name` of the statement."""
    if not on_sqlite:
        return column.in_(bindparam(name, expanding=True))
    each = func.json_each(bindparam(name, type_=_Listed)).table_valued("value")
    return column.in_(select(each.c.value))


class Prepared:
    """One statement, its values given by the names of its `bindparam`s, or by column for an INSERT.

    `on_sqlite` is the same where SQLAlchemy spells it in another way for each database.
    """

    def __init__(self, statement: Executable, *, on_sqlite: Executable | None = None) -> None:
        self._statement = statement
        self._on_sqlite = statement if on_sqlite is None else on_sqlite
        self._bare: dict[tuple[str, ...], _Bare] = {}  # by what is given

    def all(self, connection: Connection, **values: object) -> Sequence[Any]:
        """Return every row, its columns by name."""
        if (driver := _driver(connection)) is None:
            return connection.execute(self._statement, values).all()
        bare = self._compiled(values)
        found = driver.execute(bare.text, bare.values(values)).fetchall()
        return [bare.row(each) for each in found]

    def first(self, connection: Connection, **values: object) -> Any | None:
        """Return a row, or None when there is none."""
        return next(iter(self.all(connection, **values)), None)

    def scalar(self, connection: Connection, **values: object) -> Any | None:
        """Return the first column of a row, or None when there is none."""
        found = self.first(connection, **values)
        return None if found is None else found[0]

    def run(self, connection: Connection, **values: object) -> int:
        """Return how many rows it changed."""
        if (driver := _driver(connection)) is None:
            return connection.execute(self._statement, values).rowcount
        bare = self._compiled(values)
        return driver.execute(bare.text, bare.values(values)).rowcount

    def each(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it once for each of several sets of values, which have the same names."""
        if not rows:
            return
        if (driver := _driver(connection)) is None:
            connection.execute(self._statement, rows)
            return
        bare = self._compiled(rows[0])
        driver.executemany(bare.text, [bare.values(row) for row in rows])

    def _compiled(self, given: Mapping[str, object]) -> "_Bare":
        names = tuple(given)
        if (bare := self._bare.get(names)) is None:
            bare = self._bare[names] = _Bare(self._on_sqlite, names)
        return bare


class _Bare:
    """A statement as the driver of SQLite takes it."""

    def __init__(self, statement: Executable, names: Sequence[str]) -> None:
        filled = isinstance(statement, Insert) and statement.select is None
        options = {"column_keys": names} if filled else {}
        compiled = cast("Any", statement).compile(dialect=_SQLITE, **options)
        self.text = str(compiled)
        self._fixed = {n: v for n, v in compiled.params.items() if v is not None}
        kinds = {n: compiled.binds[n].type.dialect_impl(_SQLITE) for n in compiled.positiontup}
        self._names = [(n, kinds[n].bind_processor(_SQLITE)) for n in compiled.positiontup]
        columns = _columns(statement)
        turns = [c.type.dialect_impl(_SQLITE).result_processor(_SQLITE, None) for c in columns]
        self._turned = [(place, turn) for place, turn in enumerate(turns) if turn is not None]
        self._make: Any = namedtuple("Row", [column.key for column in columns])  # type: ignore[misc]  # noqa: PYI024

    def values(self, given: Mapping[str, object]) -> list[object]:
        """Return the values in the order in which the statement takes them."""
        merged = {**self._fixed, **given}
        return [merged[name] if turn is None else turn(merged[name]) for name, turn in self._names]

    def row(self, found: Sequence[object]) -> Any:
        """Return a row as the tables' types say."""
        turned = list(found)
        for place, turn in self._turned:
            turned[place] = turn(turned[place])
        return self._make._make(turned)


def _columns(statement: Executable) -> Sequence[Any]:
    if isinstance(statement, Select):
        return tuple(statement.selected_columns)
    if isinstance(statement, UpdateBase):
        return tuple(statement.exported_columns)
    return ()


def _driver(connection: Connection) -> sqlite3.Connection | None:
    """Return the driver's connection if the database is SQLite."""
    if connection.dialect.name != "sqlite":
        return None
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)
