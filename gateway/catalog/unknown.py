"""Versions that a target has no row of, because it came later: how many, which, and giving them one.

Guarantees that no step takes long however many versions there are, and that what writes holds its locks
for a page of rows only: a walk goes through all versions in order of id, a window at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, exists, func, insert, select

from gateway.catalog import tables
from gateway.catalog.clock import Clock
from gateway.model import ReplicaState

WINDOW = 2000  # versions that one step of a walk looks at

_REPLICAS = tables.replicas
_VERSIONS = tables.versions
_KNOWN = ("stored", "missing", "damaged")


@dataclass(frozen=True, slots=True)
class Step:
    """Versions without a row, and where the walk goes on; None at its end."""

    found: Sequence[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Sum:
    """How many there are, how large, and since when."""

    objects: int = 0
    bytes: int = 0
    oldest: datetime | None = None


def any_of(connection: Connection, target: str) -> bool:
    """Tell whether a target lacks a row. Counts what indexes hold, and looks at no version."""
    there = select(func.count()).where(_REPLICAS.c.target == target, _REPLICAS.c.state.in_(_KNOWN))
    purging = select(func.count()).where(_VERSIONS.c.purging.is_not(None))
    versions = connection.scalar(select(func.count()).select_from(_VERSIONS)) or 0
    return versions > (connection.scalar(there) or 0) + (connection.scalar(purging) or 0)


def sum_of(connection: Connection, target: str) -> Sum:
    """Add them up; looks at every version where there are any."""
    if not any_of(connection, target):
        return Sum()
    lacking = _lacking(target).subquery()
    row = connection.execute(
        select(
            func.count().label("objects"),
            func.coalesce(func.sum(lacking.c.body_size), 0).label("bytes"),
            func.min(lacking.c.created, type_=tables.Moment).label("oldest"),
        ).select_from(lacking)
    ).one()
    return Sum(row.objects, int(row.bytes), row.oldest)


def step(connection: Connection, target: str, cursor: str | None, limit: int) -> Step:
    """Look at the next window of a walk that began with None, for up to `limit` of them."""
    if cursor is None and not any_of(connection, target):
        return Step((), None)
    window = select(_VERSIONS.c.id).order_by(_VERSIONS.c.id).limit(WINDOW)
    if cursor is not None:
        window = window.where(_VERSIONS.c.id > cursor)
    ids = window.subquery()
    size, last = connection.execute(select(func.count(), func.max(ids.c.id))).one()
    if not size:
        return Step((), None)
    inside = _lacking(target).where(_VERSIONS.c.id <= last)
    if cursor is not None:
        inside = inside.where(_VERSIONS.c.id > cursor)
    rows = connection.execute(inside.order_by(_VERSIONS.c.id).limit(limit))
    found = [row.id for row in rows]
    if len(found) == limit:
        return Step(found, found[-1])
    return Step(found, last if size == WINDOW else None)


def adopt(connection: Connection, target: str, ids: Sequence[str], clock: Clock) -> int:
    """Give each of them a row, as missing, unless it got one meanwhile; return how many."""
    since = clock(connection)
    # Locked, so that none is purged before its row is there, and looked at only then: whoever held
    # the lock before may have given it one.
    locked = select(_VERSIONS.c.id).where(_VERSIONS.c.id.in_(ids)).order_by(_VERSIONS.c.id)
    connection.execute(locked.with_for_update()).all()
    found = connection.execute(_lacking(target).where(_VERSIONS.c.id.in_(ids)))
    rows = [
        {
            "version": row.id,
            "target": target,
            "state": ReplicaState.MISSING.value,
            "since": since,
            "born": row.created,
            "size": row.body_size,
        }
        for row in found
    ]
    if rows:
        connection.execute(insert(_REPLICAS), rows)
    return len(rows)


def _lacking(target: str) -> Select[*tuple[Any, ...]]:
    row = exists().where(_REPLICAS.c.version == _VERSIONS.c.id, _REPLICAS.c.target == target)
    columns = (_VERSIONS.c.id, _VERSIONS.c.created, _VERSIONS.c.body_size)
    return select(*columns).where(~row, _VERSIONS.c.purging.is_(None))
