"""Idempotent requests, as functions over a connection that is in a transaction.

A key belongs to one upload at a time. Taking it over fences the upload that had it, and `finish`
refuses whoever no longer holds it, so a key never has two outcomes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from gateway.catalog import tables
from gateway.catalog.clock import Clock
from gateway.catalog.faults import parent_missing
from gateway.catalog.prepared import Prepared
from gateway.catalog.upsert import insert_new
from gateway.errors import CatalogConflict, NotFound
from gateway.model import Operation

_OPERATIONS = tables.operations
_UPLOADS = tables.uploads
_RACES = 5  # how often a key may be released under our hands
_RUNNING = _OPERATIONS.c.version.is_(None)

_NEW = insert_new(_OPERATIONS, ["tenant", "key_hash"])
_FINISH = Prepared(
    update(_OPERATIONS)
    .where(
        _OPERATIONS.c.tenant == bindparam("of_tenant"),
        _OPERATIONS.c.key_hash == bindparam("key"),
        _OPERATIONS.c.upload == bindparam("holder"),
        _RUNNING,
    )
    .values(version=bindparam("outcome"))
)


def claim(
    connection: Connection, operation: Operation, lease: timedelta, clock: Clock
) -> Operation:
    """Implement `Catalog.claim`."""
    at = clock(connection)
    ours = {
        "tenant": operation.tenant,
        "key_hash": operation.key_hash,
        "fingerprint": operation.fingerprint,
        "upload": operation.upload,
        "touched": at,
    }
    stored = select(_OPERATIONS).where(*_named(operation.tenant, operation.key_hash))
    for _ in range(_RACES):
        with parent_missing(NotFound("no such tenant")):
            if _NEW.run(connection, **ours):
                return operation
        row = connection.execute(stored.with_for_update()).first()
        if row is not None:
            break
    else:
        raise CatalogConflict("the idempotency key is claimed and released too fast: try again")
    running = row.version is None
    if running and row.upload == operation.upload:
        return operation  # the answer to our first claim was lost
    if running and row.touched + lease <= at:
        _fence(connection, row.upload)
        taken = update(_OPERATIONS).where(*_named(operation.tenant, operation.key_hash))
        connection.execute(taken.values(ours))
        return operation
    return Operation(
        tenant=row.tenant,
        key_hash=row.key_hash,
        fingerprint=row.fingerprint,
        upload=row.upload,
        version=row.version,
    )


def release(connection: Connection, tenant: str, key_hash: bytes, upload: str) -> None:
    """Implement `Catalog.release`."""
    held = (*_named(tenant, key_hash), _OPERATIONS.c.upload == upload, _RUNNING)
    connection.execute(delete(_OPERATIONS).where(*held))


def touch(connection: Connection, uploads: Sequence[str], at: datetime) -> None:
    """Renew the leases that these uploads hold."""
    beat = update(_OPERATIONS).where(_OPERATIONS.c.upload == bindparam("holder"), _RUNNING)
    rows = [{"holder": upload, "at": at} for upload in sorted(uploads)]
    connection.execute(beat.values(touched=bindparam("at")), rows)


def finish(connection: Connection, tenant: str, key_hash: bytes, upload: str) -> bool:
    """Put the version on record as the outcome, or return False when `upload` lost the key."""
    held = {"of_tenant": tenant, "key": key_hash, "holder": upload}
    return _FINISH.run(connection, **held, outcome=upload) == 1


def drop(connection: Connection, upload: str) -> None:
    """Remove what an upload runs for; a finished operation stays."""
    connection.execute(delete(_OPERATIONS).where(_OPERATIONS.c.upload == upload, _RUNNING))


def expire(connection: Connection, age: timedelta, clock: Clock) -> int:
    """Implement `Catalog.expire`."""
    old = delete(_OPERATIONS).where(_OPERATIONS.c.touched < clock(connection) - age, ~_RUNNING)
    return connection.execute(old).rowcount


def _named(tenant: str, key_hash: bytes) -> tuple[ColumnElement[bool], ...]:
    return _OPERATIONS.c.tenant == tenant, _OPERATIONS.c.key_hash == key_hash


def _fence(connection: Connection, upload: str) -> None:
    connection.execute(update(_UPLOADS).where(_UPLOADS.c.id == upload).values(state="fenced"))
