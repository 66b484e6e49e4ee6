"""What is known of a target, over a SQL database, and forgetting it a page at a time.

Rows are locked in order of version, as by everybody who locks several, and replicas before stale copies.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from gateway.catalog import contents, tables
from gateway.catalog.database import Database, bound
from gateway.model import ReplicaState, Version
from gateway.ports import Trace

_LEFTOVERS = tables.leftovers
_REPLICAS = tables.replicas
_STALE = tables.stale
_VERSIONS = tables.versions
_THERE = (ReplicaState.STORED.value, ReplicaState.DAMAGED.value)


class SqlTraces:
    """Implements `gateway.ports.Traces`; a `SqlCatalog` has one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def targets(self) -> Sequence[str]:
        """Implement `Traces.targets`."""
        return await self._database.read(_targets)

    async def of(self, target: str) -> Trace:
        """Implement `Traces.of`."""
        return await self._database.read(bound(_of, target))

    async def last(
        self, target: str, kept: Collection[str], *, after: str | None = None, limit: int = 500
    ) -> Sequence[Version]:
        """Implement `Traces.last`."""
        return await self._database.read(bound(_last, target, kept, after, limit))

    async def forget(
        self, target: str, kept: Collection[str], limit: int, *, lost: bool = False
    ) -> Trace:
        """Implement `Traces.forget`."""
        return await self._database.write(bound(_forget, target, kept, limit, lost=lost))


def _targets(connection: Connection) -> Sequence[str]:
    found = set[str]()
    for column in (_REPLICAS.c.target, _STALE.c.target):
        # From one to the next along the index: there are few among very many rows.
        name = connection.scalar(select(func.min(column)))
        while name is not None:
            found.add(name)
            name = connection.scalar(select(func.min(column)).where(column > name))
    return sorted(found)


def _of(connection: Connection, target: str) -> Trace:
    replicas, stale = (
        connection.scalar(select(func.count()).where(column == target)) or 0
        for column in (_REPLICAS.c.target, _STALE.c.target)
    )
    return Trace(target, replicas, stale, len(_leftovers(connection, target)))


def _last(
    connection: Connection, target: str, kept: Collection[str], after: str | None, limit: int
) -> Sequence[Version]:
    only = select(_REPLICAS.c.version).where(_REPLICAS.c.target == target, _is_last(kept))
    query = contents.BARE.where(_VERSIONS.c.id.in_(only)).order_by(_VERSIONS.c.id).limit(limit)
    if after is not None:
        query = query.where(_VERSIONS.c.id > after)
    return [contents.version(row) for row in connection.execute(query)]


def _forget(
    connection: Connection, target: str, kept: Collection[str], limit: int, *, lost: bool
) -> Trace:
    replicas = _forget_replicas(connection, target, [] if lost else [~_is_last(kept)], limit)
    # Of those whose replica has a row the copy belongs to it.
    alone = ~exists().where(
        _REPLICAS.c.version == _STALE.c.version, _REPLICAS.c.target == _STALE.c.target
    )
    chosen = select(_STALE.c.version).where(_STALE.c.target == target, alone).limit(limit)
    stale = _forget_stale(connection, target, list(connection.scalars(chosen)))
    return Trace(target, replicas[0], replicas[1] + stale, _leave(connection, target, limit))


def _forget_replicas(
    connection: Connection, target: str, may: Sequence[ColumnElement[bool]], limit: int
) -> tuple[int, int]:
    """Drop rows of replicas and of the stale copies that belong to them; return how many of each."""
    here = _REPLICAS.c.target == target
    chosen = connection.scalars(select(_REPLICAS.c.version).where(here, *may).limit(limit))
    replicas = stale = 0
    for page in contents.slices(sorted(chosen)):
        these = (_REPLICAS.c.version.in_(page), here)
        lock = select(_REPLICAS.c.version).where(*these).order_by(_REPLICAS.c.version)
        connection.execute(lock.with_for_update())
        gone = delete(_REPLICAS).where(*these, *may).returning(_REPLICAS.c.version)
        ids = list(connection.scalars(gone))
        replicas += len(ids)
        stale += _forget_stale(connection, target, ids)
    return replicas, stale


def _forget_stale(connection: Connection, target: str, versions: Sequence[str]) -> int:
    stale = 0
    for page in contents.slices(sorted(versions)):
        these = and_(_STALE.c.version.in_(page), _STALE.c.target == target)
        lock = select(_STALE.c.version).where(these).order_by(_STALE.c.version)
        connection.execute(lock.with_for_update())
        stale += connection.execute(delete(_STALE).where(these)).rowcount
    return stale


def _leave(connection: Connection, target: str, limit: int) -> int:
    """Let blobs beside versions be on the other targets only; return how many."""
    blobs = _leftovers(connection, target)[:limit]
    for blob in blobs:
        one = _LEFTOVERS.c.blob == blob
        there = connection.scalar(select(_LEFTOVERS.c.targets).where(one).with_for_update())
        if there is not None:
            left = json.dumps([name for name in json.loads(there) if name != target])
            connection.execute(update(_LEFTOVERS).where(one).values(targets=left))
    return len(blobs)


def _leftovers(connection: Connection, target: str) -> Sequence[str]:
    named = _LEFTOVERS.c.targets.contains(json.dumps(target), autoescape=True)
    rows = select(_LEFTOVERS.c.blob, _LEFTOVERS.c.targets).where(named).order_by(_LEFTOVERS.c.blob)
    return [row.blob for row in connection.execute(rows) if target in json.loads(row.targets)]


def _is_last(kept: Collection[str]) -> ColumnElement[bool]:
    """Tell whether a replica is the last copy that is known of its version."""
    other = _REPLICAS.alias()
    stored: Any = other.c.state == ReplicaState.STORED.value
    held = exists().where(
        other.c.version == _REPLICAS.c.version, other.c.target.in_(sorted(kept)), stored
    )
    going = exists().where(_VERSIONS.c.id == _REPLICAS.c.version, _VERSIONS.c.purging.is_not(None))
    return and_(_REPLICAS.c.state.in_(_THERE), ~or_(held, going))
