"""Copies of envelopes that are not what the catalog has, as functions over a connection in a transaction.

A row names every KEK that the copy may be under, since nobody knows which of several writes came last. It
belongs to whoever wrote its `leased_until`, as a gap does (`gaps`). Rows are locked behind those of
versions and replicas.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.catalog import contents, tables
from gateway.catalog.clock import Clock
from gateway.catalog.prepared import Prepared, any_of
from gateway.model import ReplicaState, Version
from gateway.ports import Backlog, Stale

WAIT: Final = timedelta(hours=1)  # until a replica is looked at again that has to be repaired first
_ROUNDS: Final = 8  # pages of such that one claim looks at
_TICK: Final = timedelta(microseconds=1)
_ATTACHMENTS = tables.attachments
_REPLICAS = tables.replicas
_STALE = tables.stale
_VERSIONS = tables.versions
_COLUMNS = (_STALE.c.version, _STALE.c.target, _STALE.c.tenant, _STALE.c.keks, _STALE.c.since)
_ABOUT = (_VERSIONS.c.id, _VERSIONS.c.kek, _VERSIONS.c.blob, _VERSIONS.c.purging)
_FREE: Final[dict[str, Any]] = {"due": tables.EPOCH, "leased_until": tables.EPOCH}


def names(keks: str) -> frozenset[str]:
    """Return the ids of what a row names."""
    return frozenset(keks.split())


def add(connection: Connection, rows: Select[*tuple[Any, ...]]) -> None:
    """Add what is selected (version, target, tenant, KEK, time) to what is known as stale.

    Whoever was writing such a copy meanwhile no longer holds it: what was found may have come last. Nobody
    else does before that lease is over.
    """
    adding = _adding(rows, on_sqlite=connection.dialect.name == "sqlite", found=True)
    connection.execute(adding)


def _adding(rows: Select[*tuple[Any, ...]], *, on_sqlite: bool, found: bool = False) -> Insert:
    dialect = sqlite if on_sqlite else postgresql
    new = dialect.insert(_STALE).from_select(_COLUMNS, rows)
    known, more = _framed(_STALE.c.keks), _framed(new.excluded.keks)
    named = func.replace(known, more, literal_column("''")) != known
    both = _STALE.c.keks + literal_column("' '") + new.excluded.keks
    changed: dict[str, Any] = {"keks": case((named, _STALE.c.keks), else_=both)}
    if found:
        changed["leased_until"] = _STALE.c.leased_until + literal(_TICK, tables.Span)
    added: Insert = new.on_conflict_do_update(
        index_elements=[_STALE.c.version, _STALE.c.target], set_=changed
    )
    return added


def add_all(connection: Connection, versions: Iterable[str], kek: str, at: datetime) -> None:
    """Add every copy of these versions, as being under `kek`."""
    _EVERYWHERE.each(
        connection, [{"of": each, "under": kek, "at": at} for each in sorted(versions)]
    )


def backlog(connection: Connection, target: str) -> Backlog:
    """Implement `Wraps.backlog`."""
    query = select(func.count().label("copies"), func.min(_STALE.c.since).label("oldest"))
    row = connection.execute(query.where(_STALE.c.target == target)).one()
    return Backlog(target, row.copies, row.oldest)


def mark(connection: Connection, version: str, target: str, kek: str, clock: Clock) -> bool:
    """Implement `Wraps.mark_stale`."""
    row = connection.execute(_of(version).with_for_update(read=True)).first()
    return _mark(connection, row, target, kek, clock)


def seen(connection: Connection, copies: Iterable[tuple[str, str, str]], clock: Clock) -> None:
    """Take note of copies that are whole: version, target, and KEK, if that is told. What waited is due.

    For whoever holds the rows of their replicas, and so may not wait for their versions. Nor need it: a
    rewrap that is under way has, or will have, a row for every replica that is there.
    """
    found = list(copies)
    known = {version for version, _, kek in found if kek}
    rows = {
        row.id: row for ids in contents.slices(known) for row in _THESE.all(connection, ids=ids)
    }
    for version, target, kek in found:
        if kek:
            _mark(connection, rows.get(version), target, kek, clock)
    _DUE.each(connection, [{"of": version, "there": target} for version, target, _ in found])


def overtaken(
    connection: Connection, version: Version, target: str, kek: str, clock: Clock
) -> None:
    """Take note of what was written, or may have been, by somebody whose replica it no longer was."""
    row = connection.execute(_of(version.id)).first()
    if kek and row is not None and row.blob == version.blob:
        _mark(connection, row, target, kek, clock)


def _mark(
    connection: Connection,
    row: Row[*tuple[Any, ...]] | None,
    target: str,
    kek: str,
    clock: Clock,
) -> bool:
    if row is None or row.purging is not None or row.kek == kek:
        return False
    there, under = literal(target, _STALE.c.target.type), literal(kek, _STALE.c.keks.type)
    at = literal(clock(connection), tables.Moment)
    add(connection, _select(under, at, there).where(_VERSIONS.c.id == row.id))
    return True


def doubt_one(connection: Connection, version: str, target: str, kek: str, clock: Clock) -> None:
    """Add a copy that is under another KEK than its version, be it an older one or a newer one."""
    if mark(connection, version, target, kek, clock):
        of = and_(_STALE.c.version == version, _STALE.c.target == target)
        connection.execute(update(_STALE).where(of).values(unsure=True))


def doubt(connection: Connection) -> None:
    """Take every copy for one that may be newer, in a catalog as it was once, and nobody's to write now."""
    connection.execute(
        update(_STALE).values(
            unsure=True, due=tables.EPOCH, leased=tables.EPOCH, leased_until=tables.EPOCH
        )
    )


def claim(
    connection: Connection,
    targets: Iterable[str],
    *,
    tenant: str | None,
    lease: timedelta,
    limit: int,
    clock: Clock,
) -> Sequence[Stale]:
    """Implement `Wraps.claim_stale`: for each target a walk along what is due."""
    at = clock(connection)
    rows: list[Row[*tuple[Any, ...]]] = []
    for target in sorted(set(targets)):
        rows += _claim_on(connection, target, tenant, limit - len(rows), at)
    for target in {row.target for row in rows}:  # not by pairs: SQLite has no use of an index then
        ids = [row.version for row in rows if row.target == target]
        for page in contents.slices(ids):
            these = and_(_STALE.c.target == target, _STALE.c.version.in_(page))
            connection.execute(update(_STALE).where(these).values(**_leased(at, at + lease)))
    versions = contents.versions(connection, list({row.version for row in rows}))
    return [
        Stale(
            version=versions[row.version],
            target=row.target,
            keks=names(row.keks),
            since=row.since,
            tries=row.tries,
            until=max(at + lease, row.leased_until + _TICK),
            unsure=row.unsure,
        )
        for row in rows
    ]


def pushed(connection: Connection, stale: Stale, kek: str, clock: Clock) -> bool:
    """Implement `Wraps.pushed`."""
    row = _locked(connection, stale)
    if row is not None and row.kek == kek:
        return connection.execute(delete(_STALE).where(*_held(stale))).rowcount == 1
    connection.execute(update(_STALE).where(*_held(stale)).values(**_FREE))
    _mark(connection, row, stale.target, kek, clock)
    return False


def failed(connection: Connection, stale: Stale, retry: timedelta, clock: Clock) -> None:
    """Implement `Wraps.failed_push`."""
    row = _locked(connection, stale)
    due = clock(connection) + retry
    given_back = {"leased_until": tables.EPOCH, "due": due, "tries": _STALE.c.tries + 1}
    connection.execute(update(_STALE).where(*_held(stale)).values(**given_back))
    _mark(connection, row, stale.target, stale.version.kek, clock)


def release(connection: Connection, stale: Sequence[Stale]) -> None:
    """Implement `Wraps.release_stale`."""
    for each in sorted(stale, key=lambda each: (each.version.id, each.target)):
        connection.execute(update(_STALE).where(*_held(each)).values(**_FREE))


def forget(connection: Connection, version: str, target: str | None = None) -> None:
    """Drop what is known of a version's copies: of all, or of the one on a target."""
    gone = delete(_STALE).where(_STALE.c.version == version)
    connection.execute(gone if target is None else gone.where(_STALE.c.target == target))


def _claim_on(
    connection: Connection, target: str, tenant: str | None, limit: int, at: datetime
) -> list[Row[*tuple[Any, ...]]]:
    _void(connection, target, at)
    query = select(_STALE).where(_STALE.c.target == target, _STALE.c.due <= at)
    query = query.where(_STALE.c.leased_until <= at)
    if tenant is not None:
        query = query.where(_STALE.c.tenant == tenant)
    query = query.order_by(_STALE.c.due, _STALE.c.version).with_for_update(skip_locked=True)
    found: list[Row[*tuple[Any, ...]]] = []
    passed: list[ColumnElement[bool]] = []
    for _ in range(_ROUNDS):
        wanted = min(limit - len(found), contents.AT_ONCE)
        if wanted <= 0:
            break
        rows = connection.execute(query.where(*passed).limit(wanted)).all()
        if not rows:
            break
        stored = _stored(connection, target, [row.version for row in rows])
        found += [row for row in rows if row.version in stored]
        if absent := [row.version for row in rows if row.version not in stored]:
            these = and_(_STALE.c.target == target, _STALE.c.version.in_(absent))
            connection.execute(update(_STALE).where(these).values(due=at + WAIT, leased=at))
        if len(rows) < wanted:
            break
        last = rows[-1]
        later = and_(_STALE.c.due == last.due, _STALE.c.version > last.version)
        passed = [or_(_STALE.c.due > last.due, later), _STALE.c.due >= last.due]
    return found


def _void(connection: Connection, target: str, at: datetime) -> None:
    """End what was leased or put off by a clock that went back since."""
    ahead = and_(
        _STALE.c.target == target,
        _STALE.c.leased > literal_column("0"),
        _STALE.c.leased > at + tables.SETBACK,
    )
    connection.execute(
        update(_STALE)
        .where(ahead)
        .values(due=tables.EPOCH, leased=tables.EPOCH, leased_until=tables.EPOCH)
    )


def _stored(connection: Connection, target: str, versions: Sequence[str]) -> set[str]:
    # Told apart here: SQLite would go through all that the target has stored.
    columns = (_REPLICAS.c.version, _REPLICAS.c.target, _REPLICAS.c.state)
    there = select(*columns).where(_REPLICAS.c.version.in_(versions))
    stored = (target, ReplicaState.STORED.value)
    return {row.version for row in connection.execute(there) if row[1:] == stored}


def _locked(connection: Connection, stale: Stale) -> Row[*tuple[Any, ...]] | None:
    """Read the version of a copy that was written, or may have been, and let nobody change it meanwhile.

    None if it is being purged, or has another blob by now: then there is nothing to write again.
    """
    row = connection.execute(_of(stale.version.id).with_for_update(read=True)).first()
    if row is None or row.purging is not None or row.blob != stale.version.blob:
        return None
    return row


def _of(version: str) -> Select[*tuple[Any, ...]]:
    return select(*_ABOUT).where(_VERSIONS.c.id == version)


def _these(*, on_sqlite: bool) -> Select[*tuple[Any, ...]]:
    return select(*_ABOUT).where(any_of(_VERSIONS.c.id, "ids", on_sqlite=on_sqlite))


_THESE: Final = Prepared(_these(on_sqlite=False), on_sqlite=_these(on_sqlite=True))
_DUE: Final = Prepared(
    update(_STALE)
    .where(_STALE.c.version == bindparam("of"), _STALE.c.target == bindparam("there"))
    .values(due=tables.EPOCH)
)


def _select(
    kek: ColumnElement[str], at: ColumnElement[datetime], target: ColumnElement[str]
) -> Select[*tuple[Any, ...]]:
    of = _ATTACHMENTS.c.id == _VERSIONS.c.attachment
    columns = (_VERSIONS.c.id, target, _ATTACHMENTS.c.tenant, kek, at)
    return select(*columns).join_from(_VERSIONS, _ATTACHMENTS, of)


def _framed(keks: ColumnElement[str]) -> ColumnElement[str]:
    return literal_column("' '") + keks + literal_column("' '")


def _everywhere() -> Prepared:
    """Add every copy of the version `of`."""
    under, at = bindparam("under", type_=_STALE.c.keks.type), bindparam("at", type_=tables.Moment)
    copies = (
        _select(under, at, _REPLICAS.c.target)
        .join(_REPLICAS, _REPLICAS.c.version == _VERSIONS.c.id)
        .where(_REPLICAS.c.version == bindparam("of"))
        .where(_REPLICAS.c.state != ReplicaState.DELETING.value)
        .order_by(_REPLICAS.c.target)
    )
    return Prepared(_adding(copies, on_sqlite=False), on_sqlite=_adding(copies, on_sqlite=True))


_EVERYWHERE: Final = _everywhere()


def _leased(at: datetime, until: datetime) -> dict[str, Any]:
    before = _STALE.c.leased_until
    later = case(
        (before >= literal(until, tables.Moment), before + literal(_TICK, tables.Span)),
        else_=literal(until, tables.Moment),
    )
    return {"leased": at, "leased_until": later}


def _held(stale: Stale) -> tuple[ColumnElement[bool], ...]:
    return (
        _STALE.c.version == stale.version.id,
        _STALE.c.target == stale.target,
        _STALE.c.leased_until == stale.until,
    )
