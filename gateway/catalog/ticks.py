"""Time as it is counted: a lower bound of the time that really passed, whatever the clocks say.

One ticker counts at a time, so no moment counts twice; another takes its place, counting nothing yet,
when it has been silent. What each says is cut to what the database's clock moved on, in case it errs.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal, select, update

from gateway.catalog import tables
from gateway.catalog.clock import Clock
from gateway.catalog.upsert import insert_new

_TICKS = tables.ticks
_SILENT = timedelta(minutes=5)
_NONE = timedelta()
_FIRST = insert_new(_TICKS, ["id"])

COUNTED: ColumnElement[Any] = func.coalesce(
    select(_TICKS.c.counted).where(_TICKS.c.id == 1).scalar_subquery(),
    literal(_NONE, tables.Span),
    type_=tables.Span,
)


def counted(connection: Connection) -> timedelta:
    """Return the time that was counted so far."""
    return connection.scalar(select(_TICKS.c.counted)) or _NONE


def count_anew(connection: Connection, clock: Clock) -> None:
    """Let what waits to be purged wait for all of its time again, from now on.

    For a catalog as it was once: what was brought back from the trash since is in it again, and a
    restore must not be what purges it. Nor what a reseal was writing: its version may have it by now.
    """
    trashed = update(tables.attachments).where(tables.IN_TRASH)
    connection.execute(trashed.values(deleted_tick=COUNTED))
    connection.execute(update(tables.replaced).values(tick=COUNTED))
    kept = update(tables.leftovers).where(tables.leftovers.c.tick.is_not(None))
    connection.execute(kept.values(tick=COUNTED))
    written = update(tables.leftovers).where(tables.leftovers.c.tick.is_(None))
    connection.execute(written.values(at=clock(connection)))


def tick(connection: Connection, elapsed: timedelta, ticker: str, clock: Clock) -> None:
    """Implement `Bin.tick`."""
    at = clock(connection)
    if _FIRST.run(connection, id=1, ticker=ticker, counted=_NONE, last=at):
        return
    row = connection.execute(select(_TICKS).with_for_update()).one()
    moved = at - row.last
    if row.ticker == ticker:
        more = max(min(elapsed, moved), _NONE)
        values = {"counted": row.counted + more, "last": at}
    elif abs(moved) > _SILENT:
        values = {"ticker": ticker, "last": at}
    else:
        return
    connection.execute(update(_TICKS).values(**values))
