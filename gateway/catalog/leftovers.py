"""Blobs of a version beside the one that it has, as functions over a connection in a transaction.

A reseal writes one that its version gets in the end; what the version had before is kept for as long as
the trash is, by both of the catalog's clocks (`ticks`), and never goes under a hold. Where a version goes
for good, so do they, before it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.catalog import contents, retiring, stale, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.holds import no_hold
from gateway.model import ReplicaState, Version
from gateway.ports import Leftover

ABANDONED: Final = timedelta(days=1)  # after which what a reseal was writing is not waited for
_LEFTOVERS = tables.leftovers
_REPLICAS = tables.replicas
_STALE = tables.stale
_TENANTS = tables.tenants
_VERSIONS = tables.versions
_WRITTEN = and_(_LEFTOVERS.c.tick.is_(None), _LEFTOVERS.c.purging.is_(None))


def intend(connection: Connection, version: Version, blob: str, kek: str, clock: Clock) -> bool:
    """Implement `Wraps.intend`."""
    retiring.share(connection)
    if retiring.among(connection, frozenset({kek})):
        return False
    row = locked(connection, version.id)
    if row is None or row.purging is not None or row.blob != version.blob:
        return False
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    new = dialect.insert(_LEFTOVERS).values(
        blob=blob,
        tenant=version.tenant,
        version=version.id,
        keks=kek,
        targets="[]",
        at=clock(connection),
    )
    again = new.on_conflict_do_update(
        index_elements=[_LEFTOVERS.c.blob],
        set_={"at": new.excluded.at},
        where=and_(_WRITTEN, _LEFTOVERS.c.version == version.id, _LEFTOVERS.c.keks == kek),
    )
    return connection.execute(again).rowcount == 1


def switch(
    connection: Connection,
    version: Version,
    old: str,
    replicas: Mapping[str, ReplicaState],
    clock: Clock,
) -> bool:
    """Implement `Wraps.switch`."""
    row = locked(connection, version.id)
    if row is None or row.purging is not None or row.blob not in {old, version.blob}:
        return False
    if row.blob == version.blob:  # the first answer was lost
        return True
    written = delete(_LEFTOVERS).where(
        _WRITTEN, _LEFTOVERS.c.blob == version.blob, _LEFTOVERS.c.version == version.id
    )
    if connection.execute(written).rowcount == 0:
        return False
    take_over(connection, version, row, replicas, clock)
    return True


def take_over(
    connection: Connection,
    version: Version,
    row: Row[*tuple[Any, ...]],
    replicas: Mapping[str, ReplicaState],
    clock: Clock,
) -> None:
    """Make `version.blob` the blob of a version, whose locked row is given, and its last one a leftover."""
    _leave(connection, version, row, clock)
    connection.execute(
        update(_VERSIONS)
        .where(_VERSIONS.c.id == version.id)
        .values(
            blob=version.blob,
            body_size=version.body_size,
            envelope=version.envelope,
            kek=version.kek,
            inline=version.inline,
        )
    )
    _place(connection, version, replicas, clock)
    stale.forget(connection, version.id)  # behind the replicas, as whoever locks both


def abandon(connection: Connection, blob: str, clock: Clock) -> bool:
    """Implement `Wraps.abandon`."""
    over = update(_LEFTOVERS).where(_WRITTEN, _LEFTOVERS.c.blob == blob)
    connection.execute(over.values(purging=clock(connection)))
    replaced = and_(_LEFTOVERS.c.blob == blob, _LEFTOVERS.c.tick.is_not(None))
    served = (
        select(_VERSIONS.c.blob).where(_VERSIONS.c.blob == blob),
        select(_LEFTOVERS.c.blob).where(replaced),
    )
    return not any(connection.scalar(each) is not None for each in served)


def doom(connection: Connection, limit: int, clock: Clock) -> int:
    """Implement `Wraps.doom_leftovers`."""
    at, counted = clock(connection), ticks.counted(connection)
    now, passed = literal(at, tables.Moment), literal(counted, tables.Span)
    # What the shortest time of all keeps is not even looked at.
    shortest = connection.scalar(select(func.min(_TENANTS.c.trash))) or timedelta()
    kept = and_(
        _LEFTOVERS.c.at <= now - _TENANTS.c.trash, _LEFTOVERS.c.tick <= passed - _TENANTS.c.trash
    )
    due = (
        select(_LEFTOVERS.c.blob)
        .join_from(_LEFTOVERS, _TENANTS, _TENANTS.c.id == _LEFTOVERS.c.tenant)
        .where(
            _LEFTOVERS.c.purging.is_(None),
            _LEFTOVERS.c.at <= at - min(shortest, ABANDONED),
            or_(kept, and_(_LEFTOVERS.c.tick.is_(None), _LEFTOVERS.c.at <= at - ABANDONED)),
            no_hold(at, counted),
        )
        .order_by(_LEFTOVERS.c.at)
        .limit(limit)
        .with_for_update(of=_LEFTOVERS, skip_locked=True)
    )
    blobs = list(connection.scalars(due))
    for page in contents.slices(blobs):
        these = update(_LEFTOVERS).where(_LEFTOVERS.c.blob.in_(page))
        connection.execute(these.values(purging=at))
    return len(blobs)


def doomed(
    connection: Connection, limit: int, after: str | None, clock: Clock
) -> Sequence[Leftover]:
    """Implement `Wraps.leftovers`."""
    free = no_hold(clock(connection), ticks.COUNTED)
    serving = (
        _VERSIONS.c.blob.label("serving"),
        _VERSIONS.c.body_size,
        _VERSIONS.c.purging.label("over"),
    )
    query = (
        select(_LEFTOVERS, *serving)
        .join_from(_LEFTOVERS, _VERSIONS, _VERSIONS.c.id == _LEFTOVERS.c.version)
        .join(_TENANTS, _TENANTS.c.id == _LEFTOVERS.c.tenant)
        .where(_LEFTOVERS.c.purging.is_not(None), free)
    )
    if after is not None:
        query = query.where(_LEFTOVERS.c.blob > after)
    return [
        Leftover(
            blob=row.blob,
            tenant=row.tenant,
            version=row.version,
            keks=stale.names(row.keks),
            since=row.at,
            targets=frozenset(json.loads(row.targets)),
            serving=row.serving if row.over is None else "",
            size=row.body_size if row.over is None else 0,
        )
        for row in connection.execute(query.order_by(_LEFTOVERS.c.blob).limit(limit))
    ]


def gone(connection: Connection, blob: str) -> None:
    """Implement `Wraps.leftover_gone`."""
    dropped = delete(_LEFTOVERS).where(_LEFTOVERS.c.blob == blob)
    connection.execute(dropped.where(_LEFTOVERS.c.purging.is_not(None)))


def locked(connection: Connection, version: str) -> Row[*tuple[Any, ...]] | None:
    """Read a version that nobody changes meanwhile."""
    columns = (_VERSIONS.c.blob, _VERSIONS.c.kek, _VERSIONS.c.purging, _VERSIONS.c.created)
    query = select(*columns).where(_VERSIONS.c.id == version).with_for_update(key_share=True)
    return connection.execute(query).first()


def _leave(
    connection: Connection, version: Version, row: Row[*tuple[Any, ...]], clock: Clock
) -> None:
    """Make what a version has now a leftover, with all that its copies may be under."""
    keks = {row.kek}
    for copies in connection.scalars(
        select(_STALE.c.keks).where(_STALE.c.version == version.id).distinct()
    ):
        keks |= stale.names(copies)
    targets = select(_REPLICAS.c.target).where(_REPLICAS.c.version == version.id)
    connection.execute(
        insert(_LEFTOVERS).values(
            blob=row.blob,
            tenant=version.tenant,
            version=version.id,
            keks=" ".join(sorted(keks)),
            targets=json.dumps(sorted(connection.scalars(targets))),
            at=clock(connection),
            tick=ticks.COUNTED,
        )
    )


def _place(
    connection: Connection,
    version: Version,
    replicas: Mapping[str, ReplicaState],
    clock: Clock,
) -> None:
    """Let the replicas of a version be those of its new blob."""
    rows = select(_REPLICAS.c.target).where(_REPLICAS.c.version == version.id)
    targets = set(connection.scalars(rows.with_for_update())) | replicas.keys()
    connection.execute(delete(_REPLICAS).where(_REPLICAS.c.version == version.id))
    at = clock(connection)
    stored = {"state": ReplicaState.STORED.value}
    missing = {
        "state": ReplicaState.MISSING.value,
        "since": at,
        "born": version.created,
        "size": version.body_size,
    }
    for target in sorted(targets):
        there = replicas.get(target) is ReplicaState.STORED
        values = stored if there else missing
        connection.execute(insert(_REPLICAS).values(version=version.id, target=target, **values))
