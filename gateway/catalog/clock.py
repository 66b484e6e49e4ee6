"""What time it is, by the one clock that all gateways of a catalog share.

Heartbeats, leases and ages are compared with each other by whoever asks, so they are all told by the
database: gateways whose clocks differ never take a live upload for a dead one.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, DateTime, func, select

Clock = Callable[[Connection], datetime]


def database_time(connection: Connection) -> datetime:
    """Return the time of PostgreSQL's machine; of this one for a SQLite file, which is on it."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return connection.execute(
        select(func.clock_timestamp(type_=DateTime(timezone=True)))
    ).scalar_one()
