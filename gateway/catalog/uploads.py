"""Uploads from intent to version, as functions over a connection that is in a transaction.

An upload row is open, then gone (committed or forgotten), or fenced on the way: whoever deletes
an open row may make a version of it, so exactly one of commit and fence wins. Rows are locked in
the order operation, upload, attachment.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    union,
    update,
)

from gateway.catalog import attachments, operations, placement, retiring, tables, ticks
from gateway.catalog.clock import MOMENT, MOMENT_OR_NOW, Clock, moment
from gateway.catalog.faults import parent_missing
from gateway.catalog.prepared import Prepared
from gateway.catalog.references import storable
from gateway.catalog.upsert import insert_new
from gateway.errors import CatalogConflict, NotFound, PlacementChanged, UploadLost
from gateway.model import Attachment, Precondition, ReplicaState, Upload, Version

_ATTACHMENTS = tables.attachments
_LEFTOVERS = tables.leftovers
_VERSIONS = tables.versions
_UPLOADS = tables.uploads
_RACES = 5  # how often an attachment may go to the trash under our hands

_NEW_UPLOAD = Prepared(insert(_UPLOADS))
_NEW_ATTACHMENT = insert_new(_ATTACHMENTS, ["tenant", "reference"], tables.LIVE)
# Locked, so that nobody forgets it before the upload row refers to it.
_LIVE_ATTACHMENT = Prepared(
    select(_ATTACHMENTS)
    .where(
        _ATTACHMENTS.c.tenant == bindparam("of_tenant"),
        _ATTACHMENTS.c.reference == bindparam("called"),
        tables.LIVE,
    )
    .with_for_update(read=True, key_share=True)
)
_OPEN = delete(_UPLOADS).where(
    _UPLOADS.c.id == bindparam("upload"),
    _UPLOADS.c.state == "open",
    _UPLOADS.c.tenant == bindparam("of_tenant"),
    _UPLOADS.c.attachment == bindparam("of_attachment"),
    _UPLOADS.c.blob == bindparam("of_blob"),
)
# With the lock, behind which `_HELD` reads the epoch and whether the KEK is being retired: no decision on
# either comes in between.
_CLOSE = Prepared(
    _OPEN.returning(func.pg_advisory_xact_lock_shared(placement.LOCK)), on_sqlite=_OPEN
)
_OF_ATTACHMENT: BindParameter[str] = bindparam("of_attachment")
_HELD = Prepared(
    select(_ATTACHMENTS, placement.EPOCH.label("epoch"), retiring.IS_RETIRING.label("retiring"))
    .where(_ATTACHMENTS.c.id == _OF_ATTACHMENT)
    .with_for_update(key_share=True)
)
_LAST = Prepared(
    select(_VERSIONS.c.number, _VERSIONS.c.id)
    .where(_VERSIONS.c.attachment == _OF_ATTACHMENT)
    .order_by(_VERSIONS.c.number.desc())
    .limit(1)
)
_NEW_VERSION = Prepared(insert(_VERSIONS))
_REPLACED = insert(tables.replaced).values(tick=ticks.COUNTED)
_REPLACE = Prepared(_REPLACED.values(at=MOMENT_OR_NOW), on_sqlite=_REPLACED.values(at=MOMENT))
_NEW_REPLICA = Prepared(insert(tables.replicas))
_SERVE = Prepared(
    update(_ATTACHMENTS).where(_ATTACHMENTS.c.id == _OF_ATTACHMENT).values(current=bindparam("now"))
)


def begin(connection: Connection, upload: Upload, reference: str, clock: Clock) -> Attachment:
    """Implement `Catalog.begin`."""
    if not storable(reference):
        raise CatalogConflict("the reference is empty, too long or no plain text")
    target = _attachment_for(connection, upload, reference)
    _NEW_UPLOAD.run(
        connection,
        id=upload.id,
        tenant=upload.tenant,
        attachment=target.id,
        blob=upload.blob,
        started=upload.started,
        touched=clock(connection),
        state="open",
    )
    return target


def touch(connection: Connection, uploads: Sequence[str], clock: Clock) -> None:
    """Implement `Catalog.touch`."""
    if not uploads:
        return
    at = clock(connection)
    rows = [{"upload": upload, "at": at} for upload in sorted(uploads)]
    operations.touch(connection, uploads, at)
    beat = update(_UPLOADS).where(_UPLOADS.c.id == bindparam("upload"), _UPLOADS.c.state == "open")
    connection.execute(beat.values(touched=bindparam("at")), rows)


def commit(
    connection: Connection,
    version: Version,
    replicas: Mapping[str, ReplicaState],
    precondition: Precondition,
    operation: tuple[str, bytes] | None,
    *,
    epoch: int,
    clock: Clock,
) -> None:
    """Implement `Catalog.commit`."""
    if operation is not None and not operations.finish(connection, *operation, version.id):
        raise UploadLost("the idempotency key was taken over")
    _close(connection, version)
    _serve(connection, version, precondition, epoch, clock)
    rows: list[Mapping[str, object]] = []
    gaps: list[Mapping[str, object]] = []
    for target, state in replicas.items():
        row = {"version": version.id, "target": target, "state": state.value}
        (rows if state is ReplicaState.STORED else gaps).append(row)
    if rows:
        _NEW_REPLICA.each(connection, rows)
    if gaps:
        more = {"since": clock(connection), "born": version.created, "size": version.body_size}
        _NEW_REPLICA.each(connection, [{**row, **more} for row in gaps])


def committed(connection: Connection, upload: str) -> bool:
    """Implement `Catalog.committed`; a commit that is still under way is waited for."""
    connection.execute(select(_UPLOADS.c.id).where(_UPLOADS.c.id == upload).with_for_update())
    return _is_version(connection, upload)


def fence(connection: Connection, upload: str) -> bool:
    """Implement `Catalog.fence`; a commit that is still under way is waited for."""
    connection.execute(update(_UPLOADS).where(_UPLOADS.c.id == upload).values(state="fenced"))
    return not _is_version(connection, upload)  # it can be both while versions are recovered


def stale(
    connection: Connection, grace: timedelta, limit: int, after: Upload | None, clock: Clock
) -> Sequence[Upload]:
    """Implement `Catalog.stale`; an upload that is just being committed is left alone."""
    before = clock(connection) - grace
    order = tuple_(_UPLOADS.c.touched, _UPLOADS.c.id)
    passed = [] if after is None else [order > (after.touched, after.id)]
    chosen = (
        select(_UPLOADS)
        .where(or_(_UPLOADS.c.touched < before, _UPLOADS.c.state == "fenced"), *passed)
        .where(~exists().where(_VERSIONS.c.id == _UPLOADS.c.id))  # recovered, and not settled yet
        .order_by(_UPLOADS.c.touched, _UPLOADS.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(chosen).all()
    fence = update(_UPLOADS).where(_UPLOADS.c.id.in_([row.id for row in rows]))
    connection.execute(fence.values(state="fenced"))
    return [_upload(row) for row in rows]


def forget(connection: Connection, upload: str) -> None:
    """Implement `Catalog.forget`."""
    operations.drop(connection, upload)
    gone = delete(_UPLOADS).where(_UPLOADS.c.id == upload).returning(_UPLOADS.c.attachment)
    attachment = connection.scalar(gone)
    if attachment is None:
        return
    # Locked first, so that the next statement sees an upload that began in the meantime.
    held = select(_ATTACHMENTS.c.id).where(_ATTACHMENTS.c.id == attachment).with_for_update()
    connection.execute(held)
    connection.execute(
        delete(_ATTACHMENTS).where(
            _ATTACHMENTS.c.id == attachment,
            ~exists().where(_VERSIONS.c.attachment == attachment),
            ~exists().where(_UPLOADS.c.attachment == attachment),
        )
    )


def known(connection: Connection, blobs: Sequence[str]) -> frozenset[str]:
    """Implement `Catalog.known`, in one statement: a blob that commits meanwhile is always seen."""
    if not blobs:
        return frozenset()
    owned = union(
        select(_UPLOADS.c.blob).where(_UPLOADS.c.blob.in_(blobs)),
        select(_VERSIONS.c.blob).where(_VERSIONS.c.blob.in_(blobs)),
        select(_LEFTOVERS.c.blob).where(_LEFTOVERS.c.blob.in_(blobs)),
    )
    return frozenset(connection.scalars(owned))


def running(connection: Connection, blobs: Sequence[str]) -> frozenset[str]:
    """Implement `Catalog.running`."""
    resealing = and_(_LEFTOVERS.c.tick.is_(None), _LEFTOVERS.c.purging.is_(None))
    owned = union(
        select(_UPLOADS.c.blob).where(_UPLOADS.c.blob.in_(list(blobs))),
        select(_LEFTOVERS.c.blob).where(_LEFTOVERS.c.blob.in_(list(blobs)), resealing),
    )
    return frozenset(connection.scalars(owned))


def _attachment_for(connection: Connection, upload: Upload, reference: str) -> Attachment:
    new = Attachment(
        id=upload.attachment, tenant=upload.tenant, reference=reference, created=upload.started
    )
    for _ in range(_RACES):
        with parent_missing(NotFound("no such tenant")):
            if _NEW_ATTACHMENT.run(
                connection, id=new.id, tenant=new.tenant, reference=reference, created=new.created
            ):
                return new
        found = _LIVE_ATTACHMENT.first(connection, of_tenant=upload.tenant, called=reference)
        if found is not None:
            return attachments.attachment(found)
    raise CatalogConflict("the attachment is created and deleted too fast: try again")


def _close(connection: Connection, version: Version) -> None:
    closed = _CLOSE.run(
        connection,
        upload=version.id,
        of_tenant=version.tenant,
        of_attachment=version.attachment,
        of_blob=version.blob,
    )
    if not closed:
        raise UploadLost("the upload is no longer open")


def _serve(
    connection: Connection, version: Version, precondition: Precondition, epoch: int, clock: Clock
) -> None:
    row = _HELD.first(connection, of_attachment=version.attachment, under=version.kek)
    if row is None or row.deleted is not None:
        raise NotFound("the attachment went to the trash meanwhile")
    if (row.epoch or 0) != epoch:
        raise PlacementChanged("another target became the primary meanwhile")
    if row.retiring:
        raise UploadLost("the key of the upload was retired meanwhile: send it again")
    attachments.require(connection, row, precondition)
    last = _LAST.first(connection, of_attachment=version.attachment)
    if last is not None:
        at = moment(connection, clock)
        _REPLACE.run(connection, version=last.id, tenant=version.tenant, moment=at)
    number = 1 if last is None else last.number + 1
    _NEW_VERSION.run(
        connection,
        id=version.id,
        attachment=version.attachment,
        number=number,
        blob=version.blob,
        created=version.created,
        size=version.size,
        body_size=version.body_size,
        envelope=version.envelope,
        kek=version.kek,
        inline=version.inline,
    )
    _SERVE.run(connection, of_attachment=version.attachment, now=number)


def _is_version(connection: Connection, upload: str) -> bool:
    return connection.scalar(select(_VERSIONS.c.id).where(_VERSIONS.c.id == upload)) is not None


def _upload(row: Row[*tuple[Any, ...]]) -> Upload:
    return Upload(
        id=row.id,
        tenant=row.tenant,
        attachment=row.attachment,
        blob=row.blob,
        started=row.started,
        touched=row.touched,
    )
