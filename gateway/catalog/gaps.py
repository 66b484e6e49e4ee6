"""Replicas to bring back, as functions over a connection that is in a transaction.

A gap belongs to whoever wrote its `leased_until`, which only ever grows: the moment itself tells one
holder from the next. A lease that was taken in the future means that the clock went back since, by
more than `tables.SETBACK`; it is over, as is every wait that was set by that clock.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    case,
    exists,
    literal,
    null,
    or_,
    select,
    update,
)

from gateway.catalog import contents, stale, tables
from gateway.catalog.clock import Clock
from gateway.catalog.prepared import Prepared
from gateway.model import ReplicaState
from gateway.ports import Gap

_REPLICAS = tables.replicas
_ROW = (_REPLICAS.c.version, _REPLICAS.c.target)
_TICK = timedelta(microseconds=1)


def claim(
    connection: Connection,
    targets: Collection[str],
    *,
    lease: timedelta,
    limit: int,
    newest: bool,
    tenant: str | None,
    clock: Clock,
) -> Sequence[Gap]:
    """Implement `Replicas.claim`: for each target a walk along its gaps in order of age."""
    at = clock(connection)
    order = [_REPLICAS.c.born, _REPLICAS.c.version]
    query = select(_REPLICAS).where(tables.GAP, _free(at)).limit(limit)
    query = query.order_by(*([column.desc() for column in order] if newest else order))
    if tenant is not None:
        query = query.where(of_tenant(tenant))
    query = query.with_for_update(skip_locked=True)
    rows: list[Row[*tuple[Any, ...]]] = []
    for target in sorted(set(targets)):
        rows += connection.execute(query.where(_REPLICAS.c.target == target))
    rows.sort(key=lambda row: (row.born, row.version), reverse=newest)
    rows = rows[:limit]
    if not rows:
        return []
    for target in {row.target for row in rows}:  # not by pairs: SQLite has no use of an index then
        held = _REPLICAS.c.version.in_([row.version for row in rows if row.target == target])
        leased = _leased(at, at + lease).where(held, _REPLICAS.c.target == target)
        connection.execute(leased)
    versions = contents.versions(connection, list({row.version for row in rows}))
    good = _good(connection, list(versions))
    return [
        Gap(
            version=versions[row.version],
            target=row.target,
            state=ReplicaState(row.state),
            since=row.since or versions[row.version].created,
            tries=row.tries,
            good=frozenset(good.get(row.version, ())),
            until=max(at + lease, row.leased_until + _TICK),
            reason=row.reason,
        )
        for row in rows
    ]


def extend(
    connection: Connection, gaps: Sequence[Gap], lease: timedelta, clock: Clock
) -> dict[tuple[str, str], datetime]:
    """Renew the leases of those gaps that are still the caller's; return until when."""
    at = clock(connection)
    kept: dict[tuple[str, str], datetime] = {}
    for gap in sorted(gaps, key=lambda gap: (gap.version.id, gap.target)):
        renewed = _leased(at, at + lease).where(*_held(gap)).returning(_REPLICAS.c.leased_until)
        until = connection.scalar(renewed)
        if until is not None:
            kept[gap.version.id, gap.target] = until
    return kept


def filled(connection: Connection, gap: Gap, kek: str, clock: Clock) -> bool:
    """Implement `Replicas.filled`."""
    held = {"of": gap.version.id, "there": gap.target, "until": gap.until, "has": gap.version.blob}
    if _FILLED.run(connection, **held, at=clock(connection)) != 1:
        stale.overtaken(connection, gap.version, gap.target, kek, clock)
        return False
    stale.seen(connection, [(gap.version.id, gap.target, kek)], clock)
    return True


def failed(connection: Connection, gap: Gap, retry: timedelta, clock: Clock) -> bool:
    """Implement `Replicas.failed`."""
    at = clock(connection)
    given_back = {"leased_until": tables.EPOCH, "due": at + retry, "tries": _REPLICAS.c.tries + 1}
    if connection.execute(update(_REPLICAS).where(*_held(gap)).values(**given_back)).rowcount == 1:
        return True
    stale.overtaken(connection, gap.version, gap.target, gap.version.kek, clock)
    return False


def release(connection: Connection, gaps: Sequence[Gap]) -> None:
    """Implement `Replicas.release`."""
    for gap in sorted(gaps, key=lambda gap: (gap.version.id, gap.target)):
        given_back = {"leased_until": tables.EPOCH, "due": tables.EPOCH}
        connection.execute(update(_REPLICAS).where(*_held(gap)).values(**given_back))


def stored(at: ColumnElement[datetime]) -> dict[str, Any]:
    """Return the columns of a replica that was verified now."""
    return {
        "state": ReplicaState.STORED.value,
        "checked": at,
        "since": null(),
        "reason": "",
        "tries": 0,
        "born": tables.EPOCH,
        "size": 0,
        "due": tables.EPOCH,
        "leased": tables.EPOCH,
        "leased_until": tables.EPOCH,
    }


def _free(at: datetime) -> ColumnElement[bool]:
    in_time = and_(_REPLICAS.c.due <= at, _REPLICAS.c.leased_until <= at)
    return or_(in_time, _REPLICAS.c.leased > at + tables.SETBACK)


def of_tenant(tenant: str) -> ColumnElement[bool]:
    """Tell of a replica that it is of a version of a tenant."""
    joined = tables.versions.join(
        tables.attachments, tables.attachments.c.id == tables.versions.c.attachment
    )
    return (
        exists()
        .select_from(joined)
        .where(tables.versions.c.id == _REPLICAS.c.version, tables.attachments.c.tenant == tenant)
    )


def _leased(at: datetime, until: datetime) -> Update:
    before = _REPLICAS.c.leased_until
    later = case(
        (before >= literal(until, tables.Moment), before + literal(_TICK, tables.Span)),
        else_=literal(until, tables.Moment),
    )
    return update(_REPLICAS).values(leased=at, leased_until=later)


def _held(gap: Gap) -> tuple[ColumnElement[bool], ...]:
    return _holding(gap.version.id, gap.target, gap.until, gap.version.blob)


def _holding(version: Any, target: Any, until: Any, blob: Any) -> tuple[ColumnElement[bool], ...]:
    # A gap of a blob that was resealed since says nothing about the one that took its place.
    of_blob = exists().where(
        tables.versions.c.id == _REPLICAS.c.version, tables.versions.c.blob == blob
    )
    return (
        _REPLICAS.c.version == version,
        _REPLICAS.c.target == target,
        _REPLICAS.c.leased_until == until,
        tables.GAP,
        of_blob,
    )


_FILLED: Final = Prepared(
    update(_REPLICAS)
    .where(*_holding(bindparam("of"), bindparam("there"), bindparam("until"), bindparam("has")))
    .values(**stored(bindparam("at", type_=tables.Moment)))
)


def _good(connection: Connection, versions: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for page in contents.slices(versions):
        query = select(*_ROW).where(_REPLICAS.c.version.in_(page), _REPLICAS.c.state == "stored")
        for row in connection.execute(query):
            found.setdefault(row.version, set()).add(row.target)
    return found
