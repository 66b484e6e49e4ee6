"""The whole catalog as a stream of records, the same from SQLite and from PostgreSQL.

A dump is a CBOR sequence of byte strings, each of which holds one record in CBOR:

- `["sealgate catalog", 1, revision, microseconds]` first: the schema, and when it was taken;
- `["rows", table, columns, rows]`, tables in an order in which each refers to earlier ones only;
- `["served", pairs]`, attachments with the number of the version they serve, since the two tables
  refer to each other;
- `["end", rows of each table]` last, without which a dump is cut off.

Times are microseconds, everything else is as the tables have it. Nothing is opened or
sealed here: whoever takes a dump elsewhere seals it first.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import cbor2
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    insert,
    literal,
    select,
    table,
    tuple_,
    update,
)

from gateway.catalog import keks, schema, stale, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database
from gateway.errors import CatalogConflict, Unreadable
from gateway.ports import RunState

KIND: Final = "sealgate catalog"
VERSION: Final = 1
PAGE: Final = 32  # rows of one query, of which each may have an inline body
PIECE: Final = 1 << 20  # bytes of rows after which a record ends
MAX_RECORD: Final = 1 << 28
_HEAD: Final = 5  # of a CBOR byte string with its length in four bytes
_BYTES: Final = 0x5A
_KEPT: Final = ("runs",)  # what a catalog may have of its own when a dump is loaded
_OWNED: Final = ("tenants", "tokens", "attachments")
_ATTACHMENTS = tables.attachments


class SqlDumps:
    """Implements `gateway.ports.Dumps`; `SqlCatalog.dumps` is one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def dump(self) -> AsyncGenerator[bytes]:
        """Implement `Dumps.dump`."""
        counts: Counter[str] = Counter()
        async with self._database.session(write=False) as session:
            revision = await session.run(schema.revision)
            taken = await session.run(self._clock)
            yield _record([KIND, VERSION, revision, _plain(taken)])
            for each in _ordered():
                pages = _Pages(each)
                while not pages.ended:
                    rows = await session.run(pages.next)
                    if rows:
                        counts[each.name] += len(rows)
                        yield _record(["rows", each.name, list(each.columns.keys()), rows])
            served = _Pages(_ATTACHMENTS, served=True)
            while not served.ended:
                if pairs := await session.run(served.next):
                    yield _record(["served", pairs])
        yield _record(["end", dict(counts)])

    async def load(self, pieces: AsyncIterable[bytes]) -> Mapping[str, int]:
        """Implement `Dumps.load`, in one transaction."""
        loading = _Loading()
        async with self._database.session(write=True) as session:
            await session.run(_require_empty)
            async for record in _records(pieces):
                await session.run(partial(loading.take, record))
            loading.end()
            await session.run(partial(ticks.count_anew, clock=self._clock))
            await session.run(stale.doubt)
            after: str | None = ""
            while after is not None:  # of a dump that is older than the column
                after = await session.run(partial(keks.fill, after=after))
        return loading.counts


class _Pages:
    """Walks through a table in order of its primary key, a page at a time.

    With `served` it gives ids and current versions of the attachments that have one; else every
    column, but not that one.
    """

    def __init__(self, of: Table, *, served: bool = False) -> None:
        self.ended = False
        self._keys: list[ColumnElement[Any]] = list(of.primary_key.columns)
        self._query = select(of).order_by(*self._keys).limit(PAGE)
        if served:
            current = _ATTACHMENTS.c.current
            self._query = self._query.with_only_columns(_ATTACHMENTS.c.id, current)
            self._query = self._query.where(current.is_not(None))
        self._hidden = None
        if of is _ATTACHMENTS and not served:
            self._hidden = list(of.columns.keys()).index("current")
        columns = [*self._query.selected_columns]
        self._places = [columns.index(key) for key in self._keys]
        self._last: list[Any] | None = None

    def next(self, connection: Connection) -> list[list[Any]]:
        """Return rows of about a MiB, none at the end."""
        taken: list[list[Any]] = []
        size = 0
        while size < PIECE and not self.ended:
            query = self._query
            if self._last is not None:
                last = [literal(v, k.type) for v, k in zip(self._last, self._keys, strict=True)]
                query = query.where(tuple_(*self._keys) > tuple_(*last))
            rows = connection.execute(query).all()
            self.ended = len(rows) < PAGE
            if rows:
                self._last = [rows[-1][place] for place in self._places]
            for row in rows:
                taken.append([_plain(value) for value in row])
                size += sum(len(value) for value in row if isinstance(value, str | bytes)) + 64
                if self._hidden is not None:
                    taken[-1][self._hidden] = None
        return taken


class _Loading:
    """What was loaded so far, and what a dump may go on with."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._begun = False
        self._ended = False
        self._tables = {each.name: each for each in _ordered()}

    def take(self, record: Sequence[Any], connection: Connection) -> None:
        """Load one record."""
        match record:
            case [str(kind), int(version), str(revision), int()] if not self._begun:
                if (kind, version) != (KIND, VERSION) or not schema.knows(revision):
                    raise Unreadable("the dump comes from a newer version of sealgate")
                self._begun = True
                for each in reversed(_ordered()):
                    if each.name not in _KEPT:
                        connection.execute(delete(each))
            case ["rows", str(name), list(columns), list(rows)] if self._begun and not self._ended:
                self._insert(connection, name, columns, rows)
            case ["served", list(pairs)] if self._begun and not self._ended:
                _serve(connection, pairs)
            case ["end", dict(counts)] if self._begun and not self._ended:
                if counts != dict(self.counts):
                    raise Unreadable("the dump does not hold as many rows as it says")
                self._ended = True
            case _:
                raise Unreadable("the dump does not have the form of one")

    def end(self) -> None:
        """Refuse a dump that stopped before its end."""
        if not self._ended:
            raise Unreadable("the dump is cut off")

    def _insert(
        self, connection: Connection, name: str, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        into = self._tables.get(name)
        if into is None or not set(columns) <= set(into.columns.keys()):
            raise Unreadable("the dump has a table or a column that is not known")
        self.counts[name] += len(rows)
        if into is tables.runs:  # whoever did what was under way then is gone
            state = columns.index("state")
            rows = [row for row in rows if row[state] != RunState.RUNNING.value]
        if not rows:
            return
        turns = [_TURNS.get(type(into.c[column].type)) for column in columns]
        connection.execute(
            insert(into),
            [
                {
                    column: value if turn is None or value is None else turn(value)
                    for column, value, turn in zip(columns, row, turns, strict=True)
                }
                for row in rows
            ],
        )


def _serve(connection: Connection, pairs: Sequence[Any]) -> None:
    serve = update(_ATTACHMENTS).where(_ATTACHMENTS.c.id == bindparam("of"))
    rows = [{"of": attachment, "number": number} for attachment, number in pairs]
    connection.execute(serve.values(current=bindparam("number")), rows)


def _require_empty(connection: Connection) -> None:
    for name in _OWNED:
        if connection.execute(select(literal(1)).select_from(table(name)).limit(1)).first():
            raise CatalogConflict(
                "the catalog is not empty: a backup of one goes into a new database, migrated"
            )


def _ordered() -> Sequence[Table]:
    """Return the tables, each behind those that it refers to but for `attachments.current`."""
    return tables.metadata.sorted_tables


def _record(value: object) -> bytes:
    content = cbor2.dumps(value)
    return bytes([_BYTES]) + len(content).to_bytes(_HEAD - 1, "big") + content


async def _records(pieces: AsyncIterable[bytes]) -> AsyncGenerator[Sequence[Any]]:
    pending = bytearray()
    async for piece in pieces:
        pending += piece
        for content in _cut(pending):
            yield _decoded(content)
    if pending:
        raise Unreadable("the dump is cut off")


def _cut(pending: bytearray) -> Iterator[bytes]:
    """Take every whole record off the front."""
    while len(pending) >= _HEAD:
        size = int.from_bytes(pending[1:_HEAD], "big")
        if pending[0] != _BYTES or size > MAX_RECORD:
            raise Unreadable("the dump does not have the form of one")
        if len(pending) < _HEAD + size:
            return
        content = bytes(pending[_HEAD : _HEAD + size])
        del pending[: _HEAD + size]
        yield content


def _decoded(content: bytes) -> Sequence[Any]:
    try:
        record = cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, EOFError):
        record = None
    if not isinstance(record, list):
        raise Unreadable("the dump does not have the form of one")
    return record


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return (value - tables.EPOCH) // timedelta(microseconds=1)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    return value


_TURNS: Final[Mapping[type, Callable[[int], object]]] = {
    tables.Moment: lambda value: tables.EPOCH + timedelta(microseconds=value),
    tables.Span: lambda value: timedelta(microseconds=value),
}
