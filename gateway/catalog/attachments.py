"""Attachments and their versions, as functions over a connection that is in a transaction.

Reading a page takes two queries: one for attachments with their versions, one for the replicas of
a thousand of them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    literal,
    null,
    select,
    update,
)

from gateway.catalog import contents, tables, ticks
from gateway.catalog.clock import MOMENT, MOMENT_OR_NOW, Clock, moment
from gateway.catalog.prepared import Prepared
from gateway.catalog.references import beyond, searchable
from gateway.errors import NotFound, PreconditionFailed
from gateway.model import Attachment, Found, Precondition, ReplicaState, Version

_ATTACHMENTS = tables.attachments
_VERSIONS = tables.versions
_REPLICAS = tables.replicas

_BY_ATTACHMENT = _VERSIONS.c.attachment == _ATTACHMENTS.c.id
_COLUMNS = (
    _ATTACHMENTS.c.id,
    _ATTACHMENTS.c.tenant,
    _ATTACHMENTS.c.reference,
    _ATTACHMENTS.c.created,
    _ATTACHMENTS.c.deleted,
    _ATTACHMENTS.c.current,
    _VERSIONS.c.id.label("version"),
    _VERSIONS.c.number,
    _VERSIONS.c.blob,
    _VERSIONS.c.created.label("committed"),
    _VERSIONS.c.size,
    _VERSIONS.c.body_size,
    _VERSIONS.c.kek,
)
_WHOLE = (*_COLUMNS, _VERSIONS.c.envelope, _VERSIONS.c.inline)
_LISTED = (*_COLUMNS, _VERSIONS.c.envelope, null().label("inline"))
_COUNTED = (*_COLUMNS, literal(b"").label("envelope"), null().label("inline"))
_CURRENT = select(*_WHOLE).join_from(_ATTACHMENTS, _VERSIONS, tables.CURRENT)
_READABLE = and_(_BY_ATTACHMENT, _VERSIONS.c.purging.is_(None))
_EVERY = select(*_WHOLE).join_from(_ATTACHMENTS, _VERSIONS, _READABLE)
_PAGE = select(*_LISTED).join_from(_ATTACHMENTS, _VERSIONS, tables.CURRENT)
_HISTORY = select(*_COUNTED).join_from(_ATTACHMENTS, _VERSIONS, _READABLE)
_OF_TENANT = _ATTACHMENTS.c.tenant == bindparam("of_tenant")
_CALLED = _ATTACHMENTS.c.reference == bindparam("called")
_NAMED = _VERSIONS.c.id == bindparam("named")
_FIND = Prepared(_CURRENT.where(_OF_TENANT, _CALLED, tables.LIVE))
_FIND_VERSION = Prepared(_EVERY.where(_NAMED, _OF_TENANT, _CALLED, tables.LIVE))
_BY_VERSION = Prepared(_EVERY.where(_NAMED, _OF_TENANT))
_STATES = select(_REPLICAS.c.version, _REPLICAS.c.target, _REPLICAS.c.state)
_REPLICAS_OF = Prepared(_STATES.where(_REPLICAS.c.version == bindparam("of_version")))
_TRASHED = (
    update(_ATTACHMENTS)
    .where(_ATTACHMENTS.c.id == bindparam("named"))
    .values(deleted_tick=ticks.COUNTED)
    .returning(_ATTACHMENTS.c.deleted)
)
_TRASH = Prepared(_TRASHED.values(deleted=MOMENT_OR_NOW), on_sqlite=_TRASHED.values(deleted=MOMENT))


def find(connection: Connection, tenant: str, reference: str, version: str | None = None) -> Found:
    """Implement `Catalog.find`."""
    if not searchable(reference):
        raise NotFound("no such attachment")
    if version is None:
        rows = _FIND.all(connection, of_tenant=tenant, called=reference)
    else:
        rows = _FIND_VERSION.all(connection, of_tenant=tenant, called=reference, named=version)
    return _one(connection, rows)


def by_version(connection: Connection, tenant: str, version: str) -> Found:
    """Implement `Catalog.by_version`."""
    return _one(connection, _BY_VERSION.all(connection, of_tenant=tenant, named=version))


def versions(
    connection: Connection, tenant: str, reference: str, after: str | None, limit: int
) -> Sequence[Found]:
    """Implement `Catalog.versions`."""
    query = _HISTORY.where(*_live(tenant, reference))
    if after is not None:
        last = _VERSIONS.alias()
        of_last = and_(last.c.id == after, last.c.attachment == _ATTACHMENTS.c.id)
        query = query.join(last, of_last).where(_VERSIONS.c.number < last.c.number)
    found = _found(connection, query.order_by(_VERSIONS.c.number.desc()).limit(limit))
    if not found:
        find(connection, tenant, reference, after)  # raises NotFound unless the page is just empty
    return found


def page(
    connection: Connection, tenant: str, prefix: str, after: str | None, limit: int
) -> Sequence[Found]:
    """Implement `Catalog.list`."""
    reference = _ATTACHMENTS.c.reference
    if not searchable(prefix) or not searchable(after or ""):
        return []
    query = _PAGE.where(_ATTACHMENTS.c.tenant == tenant, tables.LIVE)
    if after is not None and after >= prefix:
        query = query.where(reference > after)
    elif prefix:
        query = query.where(reference >= prefix)
    if (end := beyond(prefix)) is not None:
        query = query.where(reference < end)
    return _found(connection, query.order_by(reference).limit(limit))


def trash(
    connection: Connection, tenant: str, reference: str, precondition: Precondition, clock: Clock
) -> Attachment:
    """Implement `Catalog.trash`."""
    query = select(_ATTACHMENTS).where(
        *_live(tenant, reference), _ATTACHMENTS.c.current.is_not(None)
    )
    row = connection.execute(query.with_for_update(key_share=True)).first()
    if row is None:
        raise NotFound("no such attachment")
    require(connection, row, precondition)
    at = _TRASH.scalar(connection, named=row.id, moment=moment(connection, clock))
    return attachment(row, deleted=at)


def require(connection: Connection, row: Row[*tuple[Any, ...]], precondition: Precondition) -> None:
    """Raise PreconditionFailed unless it holds of the attachment in `row`, which is locked."""
    exists = row.current is not None
    if precondition.must_exist is not None and precondition.must_exist != exists:
        raise PreconditionFailed("the attachment exists already" if exists else "no version yet")
    if precondition.versions is None:
        return
    current = connection.scalar(
        select(_VERSIONS.c.id).where(
            _VERSIONS.c.attachment == row.id, _VERSIONS.c.number == row.current
        )
    )
    if current not in precondition.versions:
        raise PreconditionFailed("another version is current")


def attachment(row: Row[*tuple[Any, ...]], deleted: datetime | None = None) -> Attachment:
    """Make the value of a row with the columns of the attachments table."""
    return Attachment(
        id=row.id,
        tenant=row.tenant,
        reference=row.reference,
        created=row.created,
        deleted=deleted or row.deleted,
    )


def _live(tenant: str, reference: str) -> tuple[ColumnElement[bool], ...]:
    if not searchable(reference):
        raise NotFound("no such attachment")
    return _ATTACHMENTS.c.tenant == tenant, _ATTACHMENTS.c.reference == reference, tables.LIVE


def _one(connection: Connection, rows: Sequence[Any]) -> Found:
    if not rows:
        raise NotFound("no such attachment or version")
    (row,) = rows
    known = _REPLICAS_OF.all(connection, of_version=row.version)
    return _told(row, {replica.target: contents.state(replica.state) for replica in known})


def _found(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[Found]:
    rows = connection.execute(query).all()
    replicas: dict[str, dict[str, ReplicaState]] = {row.version: {} for row in rows}
    for ids in contents.slices(replicas):
        for replica in connection.execute(_STATES.where(_REPLICAS.c.version.in_(ids))):
            replicas[replica.version][replica.target] = contents.state(replica.state)
    return [_told(row, replicas[row.version]) for row in rows]


def _told(row: Any, replicas: Mapping[str, ReplicaState]) -> Found:
    return Found(
        attachment=attachment(row),
        version=_version(row),
        replicas=replicas,
        current=row.number == row.current,
    )


def _version(row: Row[*tuple[Any, ...]]) -> Version:
    return Version(
        id=row.version,
        attachment=row.id,
        tenant=row.tenant,
        blob=row.blob,
        created=row.committed,
        size=row.size,
        body_size=row.body_size,
        envelope=row.envelope,
        kek=row.kek,
        inline=row.inline,
    )
