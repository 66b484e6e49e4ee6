"""KEKs under which nothing comes any more, as functions over a connection that is in a transaction.

Whoever puts something under a KEK reads in the same transaction whether it is here, on PostgreSQL behind
`placement.LOCK`, which it holds shared by then; to begin a retirement takes it alone. So once `begin`
returned, nothing that did not see it is still under way.
"""

from datetime import datetime

from sqlalchemy import Connection, bindparam, exists, func, select

from gateway.catalog import placement, tables
from gateway.catalog.clock import Clock
from gateway.catalog.faults import parent_missing
from gateway.catalog.prepared import Prepared
from gateway.catalog.upsert import insert_new
from gateway.errors import NotFound

_RETIRING = tables.retiring
_UPLOADS = tables.uploads
_FIRST = insert_new(_RETIRING, ["kek"])
_CLOSED = Prepared(select(_RETIRING.c.kek).where(_RETIRING.c.kek == bindparam("under")))
IS_RETIRING = exists().where(_RETIRING.c.kek == bindparam("under"))


def begin(connection: Connection, tenant: str, kek: str, clock: Clock) -> None:
    """Implement `Wraps.retiring`."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(placement.LOCK)))
    with parent_missing(NotFound("no such tenant")):
        _FIRST.run(connection, kek=kek, tenant=tenant, at=clock(connection))


def share(connection: Connection) -> None:
    """Take the lock behind which `among` tells what holds until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock_shared(placement.LOCK)))


def among(connection: Connection, keks: frozenset[str]) -> frozenset[str]:
    """Return those of these KEKs that are here."""
    found = (_CLOSED.scalar(connection, under=kek) for kek in sorted(keks))
    return frozenset(kek for kek in found if kek is not None)


def begun(connection: Connection, tenant: str, before: datetime) -> int:
    """Implement `Wraps.begun`."""
    under_way = select(func.count()).where(
        _UPLOADS.c.tenant == tenant, _UPLOADS.c.state == "open", _UPLOADS.c.started < before
    )
    return connection.scalar(under_way) or 0
