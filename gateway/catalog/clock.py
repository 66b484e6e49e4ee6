"""What time it is, by the one clock that all gateways of a catalog share.

Heartbeats, leases and ages are compared with each other by whoever asks, so they are all told by the
database: gateways whose clocks differ never take a live upload for a dead one.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    bindparam,
    cast,
    func,
    select,
)

from gateway.catalog.tables import Moment

Clock = Callable[[Connection], datetime]

# The time within a statement: as `moment` gives it, or looked up by PostgreSQL in passing.
MOMENT: ColumnElement[datetime] = bindparam("moment", type_=Moment)
_EPOCH = func.extract("epoch", func.clock_timestamp())
MOMENT_OR_NOW: ColumnElement[datetime] = func.coalesce(
    MOMENT, cast(_EPOCH * 1_000_000, BigInteger), type_=Moment
)


def database_time(connection: Connection) -> datetime:
    """Return the time of PostgreSQL's machine; of this one for a SQLite file, which is on it."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return connection.execute(
        select(func.clock_timestamp(type_=DateTime(timezone=True)))
    ).scalar_one()


def moment(connection: Connection, clock: Clock) -> datetime | None:
    """Return what `moment` is in a statement; None saves PostgreSQL a round trip."""
    if clock is database_time and connection.dialect.name != "sqlite":
        return None
    return clock(connection)
