"""The end of versions: which are due, and how they go, as functions over a connection in a transaction.

A version is doomed (out of sight, its replicas `deleting`), then gone from each target, then forgotten.
Nothing is doomed before both the database's clock and the counted time (`ticks`) say that it may be,
and nothing under a hold; the rows are locked while that is asked, so an undelete wins or finds nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from gateway.catalog import contents, stale, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.holds import no_hold
from gateway.errors import CatalogConflict, NotFound
from gateway.model import ReplicaState
from gateway.ports import Doomed

_ATTACHMENTS = tables.attachments
_LEFTOVERS = tables.leftovers
_REPLACED = tables.replaced
_REPLICAS = tables.replicas
_TENANTS = tables.tenants
_UPLOADS = tables.uploads
_VERSIONS = tables.versions
_AT_ONCE = 500  # attachments whose versions are doomed in one go


def doom(connection: Connection, limit: int, clock: Clock) -> int:
    """Implement `Bin.doom`."""
    at, counted = clock(connection), ticks.counted(connection)
    _count_from_now(connection, counted)
    _give_up(connection, _due_attachments(at, counted), limit, at)
    _give_up_the_dead(connection, limit, at, counted)
    doomed = _doom_attachments(connection, limit, at)
    return doomed + _doom_replaced(connection, limit - doomed, at, counted)


def doom_now(connection: Connection, tenant: str, attachment: str, clock: Clock) -> int:
    """Implement `Bin.doom_now`."""
    at, counted = clock(connection), ticks.counted(connection)
    named = and_(_ATTACHMENTS.c.id == attachment, _ATTACHMENTS.c.tenant == tenant)
    whole = or_(_ATTACHMENTS.c.current.is_not(None), _ATTACHMENTS.c.purging.is_not(None))
    held = select(_ATTACHMENTS.c.id).where(named, _ATTACHMENTS.c.deleted.is_not(None), whole)
    if connection.scalar(held.with_for_update()) is None:
        raise NotFound("no such attachment in the trash")
    free = select(_TENANTS.c.id).where(_TENANTS.c.id == tenant, no_hold(at, counted))
    if connection.scalar(free) is None:
        raise CatalogConflict("the tenant is under a hold: nothing of it is purged")
    connection.execute(
        update(_ATTACHMENTS).where(named, _ATTACHMENTS.c.purging.is_(None)).values(purging=at)
    )
    versions = connection.execute(
        select(_VERSIONS.c.id, _VERSIONS.c.purging).where(_VERSIONS.c.attachment == attachment)
    ).all()
    _doom(connection, [row.id for row in versions if row.purging is None], at)
    connection.execute(update(_ATTACHMENTS).where(named).values(current=None))
    return len(versions)


def doomed(connection: Connection, limit: int, after: str | None, clock: Clock) -> Sequence[Doomed]:
    """Implement `Bin.doomed`."""
    free = no_hold(clock(connection), ticks.COUNTED)
    columns = [each for each in contents.COLUMNS if each is not _VERSIONS.c.inline]
    query = (
        select(*columns, null().label("inline"))
        .join_from(_VERSIONS, _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment)
        .join(_TENANTS, _TENANTS.c.id == _ATTACHMENTS.c.tenant)
        .where(_VERSIONS.c.purging.is_not(None), free)
        .order_by(_VERSIONS.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(_VERSIONS.c.id > after)
    found = {row.id: contents.version(row) for row in connection.execute(query)}
    targets: dict[str, set[str]] = {version: set() for version in found}
    for page in contents.slices(found):
        for row in connection.execute(select(_REPLICAS).where(_REPLICAS.c.version.in_(page))):
            targets[row.version].add(row.target)
    return [Doomed(version, frozenset(targets[id_])) for id_, version in found.items()]


def gone(connection: Connection, version: str, target: str) -> None:
    """Implement `Bin.gone`."""
    connection.execute(
        delete(_REPLICAS).where(
            _REPLICAS.c.version == version,
            _REPLICAS.c.target == target,
            _REPLICAS.c.state == ReplicaState.DELETING.value,
        )
    )
    stale.forget(connection, version, target)


def purge(connection: Connection, version: str) -> bool:
    """Implement `Bin.purge`."""
    found = select(_VERSIONS).where(_VERSIONS.c.id == version)
    row = connection.execute(found.with_for_update()).first()
    if row is None:
        return True
    left = select(_REPLICAS.c.target).where(_REPLICAS.c.version == version).limit(1)
    beside = select(_LEFTOVERS.c.blob).where(_LEFTOVERS.c.version == version).limit(1)
    if row.purging is None or any(connection.scalar(each) is not None for each in (left, beside)):
        return False
    last = and_(_ATTACHMENTS.c.id == row.attachment, _ATTACHMENTS.c.current == row.number)
    connection.execute(update(_ATTACHMENTS).where(last).values(current=None))
    connection.execute(delete(_REPLACED).where(_REPLACED.c.version == version))
    stale.forget(connection, version)
    connection.execute(delete(_VERSIONS).where(_VERSIONS.c.id == version))
    # Locked first, so that the next statement sees what was purged in the meantime.
    held = select(_ATTACHMENTS.c.id).where(_ATTACHMENTS.c.id == row.attachment).with_for_update()
    connection.execute(held)
    connection.execute(
        delete(_ATTACHMENTS).where(
            _ATTACHMENTS.c.id == row.attachment,
            _ATTACHMENTS.c.purging.is_not(None),
            ~exists().where(_VERSIONS.c.attachment == row.attachment),
            ~exists().where(_UPLOADS.c.attachment == row.attachment),
        )
    )
    return True


def _count_from_now(connection: Connection, counted: timedelta) -> None:
    """Begin to count for what a gateway of the version before moved to the trash."""
    uncounted = update(_ATTACHMENTS).where(tables.UNCOUNTED)
    connection.execute(uncounted.values(deleted_tick=counted))


def _due_attachments(at: datetime, counted: timedelta) -> ColumnElement[bool]:
    """Tell which attachments have been in the trash for long enough by both clocks."""
    # What the shortest retention of all keeps is not even looked at.
    shortest = select(func.min(_TENANTS.c.trash)).scalar_subquery()
    tenant = and_(
        _TENANTS.c.id == _ATTACHMENTS.c.tenant,
        no_hold(at, counted),
        _ATTACHMENTS.c.deleted <= literal(at, tables.Moment) - _TENANTS.c.trash,
        _ATTACHMENTS.c.deleted_tick <= literal(counted, tables.Span) - _TENANTS.c.trash,
    )
    old = _ATTACHMENTS.c.deleted <= literal(at, tables.Moment) - shortest
    return and_(tables.IN_TRASH, old, exists().where(tenant))


def _give_up(connection: Connection, due: ColumnElement[bool], limit: int, at: datetime) -> None:
    chosen = select(_ATTACHMENTS.c.id).where(due).order_by(_ATTACHMENTS.c.deleted).limit(limit)
    ids = list(connection.scalars(chosen.with_for_update(skip_locked=True)))
    for page in contents.slices(ids):
        connection.execute(
            update(_ATTACHMENTS).where(_ATTACHMENTS.c.id.in_(page)).values(purging=at)
        )


def _give_up_the_dead(connection: Connection, limit: int, at: datetime, counted: timedelta) -> None:
    """Let everything go that tenants have whose keys are destroyed, live or in the trash."""
    dead = select(_TENANTS.c.id).where(_TENANTS.c.shredded.is_not(None), no_hold(at, counted))
    given: dict[str, Any] = {
        "purging": at,
        "deleted": func.coalesce(_ATTACHMENTS.c.deleted, literal(at, tables.Moment)),
        "deleted_tick": func.coalesce(_ATTACHMENTS.c.deleted_tick, literal(counted, tables.Span)),
    }
    for tenant in connection.scalars(dead).all():
        if limit <= 0:
            return
        for state in (tables.LIVE, tables.IN_TRASH):
            # One that never got a version goes with its upload.
            kept = and_(_ATTACHMENTS.c.tenant == tenant, state, _ATTACHMENTS.c.current.is_not(None))
            chosen = select(_ATTACHMENTS.c.id).where(kept).limit(max(limit, 0))
            ids = list(connection.scalars(chosen.with_for_update(skip_locked=True)))
            for page in contents.slices(ids):
                these = update(_ATTACHMENTS).where(_ATTACHMENTS.c.id.in_(page))
                connection.execute(these.values(**given))
            limit -= len(ids)


def _doom_attachments(connection: Connection, limit: int, at: datetime) -> int:
    """Doom the versions of attachments that are past recall, as many as may be."""
    some = list(connection.scalars(select(_ATTACHMENTS.c.id).where(tables.DOOMING).limit(_AT_ONCE)))
    left = (
        select(_VERSIONS.c.id)
        .where(_VERSIONS.c.attachment.in_(some), _VERSIONS.c.purging.is_(None))
        .limit(limit)
    )
    ids = list(connection.scalars(left.with_for_update(of=_VERSIONS, skip_locked=True)))
    _doom(connection, ids, at)
    whole = ~exists().where(
        _VERSIONS.c.attachment == _ATTACHMENTS.c.id, _VERSIONS.c.purging.is_(None)
    )
    these = update(_ATTACHMENTS).where(_ATTACHMENTS.c.id.in_(some), tables.DOOMING, whole)
    connection.execute(these.values(current=None))
    return len(ids)


def _doom_replaced(connection: Connection, limit: int, at: datetime, counted: timedelta) -> int:
    """Doom versions that were replaced and that their tenant no longer keeps."""
    kept, age = _TENANTS.c.versions_kept, _TENANTS.c.versions_age
    limited = or_(kept.is_not(None), age.is_not(None))
    tenants = select(_TENANTS).where(limited, no_hold(at, counted)).order_by(_TENANTS.c.id)
    doomed = 0
    for tenant in connection.execute(tenants).all():
        if doomed >= limit:
            break
        due = _due_versions(tenant, at, counted).limit(limit - doomed)
        ids = list(connection.scalars(due.with_for_update(of=_VERSIONS, skip_locked=True)))
        _doom(connection, ids, at)
        doomed += len(ids)
    return doomed


def _due_versions(
    tenant: Row[*tuple[Any, ...]], at: datetime, counted: timedelta
) -> Select[*tuple[Any, ...]]:
    """Select what one tenant no longer keeps, replaced the longest ago first."""
    later = _VERSIONS.alias()
    newer = (
        select(func.count())
        .where(
            later.c.attachment == _VERSIONS.c.attachment,
            later.c.number > _VERSIONS.c.number,
            later.c.number < _ATTACHMENTS.c.current,
            later.c.purging.is_(None),
        )
        .scalar_subquery()
    )
    least = literal(max(tenant.trash, tenant.versions_age or timedelta()), tables.Span)
    due = (
        select(_VERSIONS.c.id)
        .join_from(_REPLACED, _VERSIONS, _VERSIONS.c.id == _REPLACED.c.version)
        .join(_ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment)
        .where(
            _REPLACED.c.tenant == tenant.id,
            _REPLACED.c.at <= literal(at, tables.Moment) - least,
            _REPLACED.c.tick <= literal(counted, tables.Span) - least,
            _VERSIONS.c.purging.is_(None),
            _VERSIONS.c.number < _ATTACHMENTS.c.current,
        )
        .order_by(_REPLACED.c.at, _REPLACED.c.version)
    )
    return due if tenant.versions_kept is None else due.where(newer >= tenant.versions_kept)


def _doom(connection: Connection, versions: Sequence[str], at: datetime) -> None:
    lost: dict[str, Any] = {"state": ReplicaState.DELETING.value, "leased_until": tables.EPOCH}
    for page in contents.slices(sorted(versions)):
        connection.execute(update(_VERSIONS).where(_VERSIONS.c.id.in_(page)).values(purging=at))
        connection.execute(update(_REPLICAS).where(_REPLICAS.c.version.in_(page)).values(**lost))
        connection.execute(delete(_REPLACED).where(_REPLACED.c.version.in_(page)))
        # Not what a reseal is writing now: it is told at its next word, or taken for abandoned, and removes
        # what it wrote since. Until then the row of the version stays.
        replaced = and_(_LEFTOVERS.c.purging.is_(None), _LEFTOVERS.c.tick.is_not(None))
        beside = and_(_LEFTOVERS.c.version.in_(page), replaced)
        connection.execute(update(_LEFTOVERS).where(beside).values(purging=at))
