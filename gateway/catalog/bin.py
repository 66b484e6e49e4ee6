"""The trash over a SQL database: what may come back, and how long it is kept.

How it ends is in `doom`. What was moved there is due when both the database's clock and the counted time
(`ticks`) say so.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, null, select, update

from gateway.catalog import contents, doom, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.errors import CatalogConflict, NotFound
from gateway.model import Attachment, Retention
from gateway.ports import Doomed, Trashed

_ATTACHMENTS = tables.attachments
_TENANTS = tables.tenants
_VERSIONS = tables.versions
_NONE = timedelta()
_END = datetime.max.replace(tzinfo=UTC)
_LOCKED = (
    select(_TENANTS.c.hold, _TENANTS.c.hold_tick)
    .where(_TENANTS.c.id == bindparam("tenant"))
    .with_for_update(key_share=True)
)


class SqlBin:
    """Implements `gateway.ports.Bin`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def retention(self, tenant: str) -> Retention:
        """Implement `Bin.retention`."""
        return await self._database.read(bound(_retention, tenant))

    async def retain(self, tenant: str, retention: Retention) -> None:
        """Implement `Bin.retain`."""
        await self._database.write(bound(_retain, tenant, retention, self._clock))

    async def amend(self, tenant: str, change: Callable[[Retention], Retention]) -> Retention:
        """Implement `Bin.amend`."""
        return await self._database.write(bound(_amend, tenant, change, self._clock))

    async def trashed(
        self, tenant: str, after: str | None = None, limit: int = 100
    ) -> Sequence[Trashed]:
        """Implement `Bin.trashed`."""
        return await self._database.read(bound(_trashed, tenant, after, limit, self._clock))

    async def undelete(self, tenant: str, attachment: str) -> Attachment:
        """Implement `Bin.undelete`."""
        return await self._database.write(bound(_undelete, tenant, attachment))

    async def tick(self, elapsed: timedelta, ticker: str) -> None:
        """Implement `Bin.tick`."""
        await self._database.write(bound(ticks.tick, elapsed, ticker, self._clock))

    async def doom(self, limit: int) -> int:
        """Implement `Bin.doom`."""
        return await self._database.write(bound(doom.doom, limit, self._clock))

    async def doom_now(self, tenant: str, attachment: str) -> int:
        """Implement `Bin.doom_now`; safe to repeat after a lost answer."""
        return await self._database.write(bound(doom.doom_now, tenant, attachment, self._clock))

    async def doomed(self, limit: int, after: str | None = None) -> Sequence[Doomed]:
        """Implement `Bin.doomed`."""
        return await self._database.read(bound(doom.doomed, limit, after, self._clock))

    async def gone(self, version: str, target: str) -> None:
        """Implement `Bin.gone`."""
        await self._database.write(bound(doom.gone, version, target))

    async def purge(self, version: str) -> bool:
        """Implement `Bin.purge`; true again when the first answer was lost."""
        return await self._database.write(bound(doom.purge, version))


def _retention(connection: Connection, tenant: str) -> Retention:
    row = connection.execute(select(_TENANTS).where(_TENANTS.c.id == tenant)).first()
    if row is None:
        raise NotFound("no such tenant")
    return Retention(row.trash, row.versions_kept, row.versions_age, row.hold)


def _amend(
    connection: Connection,
    tenant: str,
    change: Callable[[Retention], Retention],
    clock: Clock,
) -> Retention:
    connection.execute(_LOCKED, {"tenant": tenant})
    retention = change(_retention(connection, tenant))
    _retain(connection, tenant, retention, clock)
    return retention


def _retain(connection: Connection, tenant: str, retention: Retention, clock: Clock) -> None:
    row = connection.execute(_LOCKED, {"tenant": tenant}).first()
    if row is None:
        raise NotFound("no such tenant")
    hold = retention.hold
    tick = None
    if hold is not None:
        tick = ticks.counted(connection) + max(hold - clock(connection), _NONE)
        if hold == row.hold and row.hold_tick is not None:
            tick = max(tick, row.hold_tick)  # the clock may be wrong now
    values = {
        "trash": retention.trash,
        "versions_kept": retention.versions,
        "versions_age": retention.age,
        "hold": hold,
        "hold_tick": tick,
    }
    connection.execute(update(_TENANTS).where(_TENANTS.c.id == tenant).values(**values))


def _trashed(
    connection: Connection, tenant: str, after: str | None, limit: int, clock: Clock
) -> Sequence[Trashed]:
    columns = [each for each in contents.COLUMNS if each is not _VERSIONS.c.inline]
    query = (
        select(
            *columns,
            null().label("inline"),
            _ATTACHMENTS.c.reference,
            _ATTACHMENTS.c.created.label("begun"),
            _ATTACHMENTS.c.deleted,
            _ATTACHMENTS.c.deleted_tick,
            _TENANTS.c.trash,
            _TENANTS.c.hold,
            _TENANTS.c.hold_tick,
            ticks.COUNTED.label("counted"),
        )
        .join_from(_ATTACHMENTS, _VERSIONS, tables.CURRENT)
        .join(_TENANTS, _TENANTS.c.id == _ATTACHMENTS.c.tenant)
        .where(_ATTACHMENTS.c.tenant == tenant, tables.IN_TRASH)
        .order_by(_ATTACHMENTS.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(_ATTACHMENTS.c.id > after)
    at = clock(connection)
    return [
        Trashed(
            attachment=Attachment(
                row.attachment, row.tenant, row.reference, row.begun, row.deleted
            ),
            version=contents.version(row),
            due=_due(row, at),
        )
        for row in connection.execute(query)
    ]


def _due(row: Row[*tuple[Any, ...]], at: datetime) -> datetime:
    """Return the earliest moment at which both clocks can agree, if from now on they run alike."""
    since = row.counted if row.deleted_tick is None else row.deleted_tick
    ends: list[datetime] = [row.deleted + row.trash, _in(at, since + row.trash - row.counted)]
    if row.hold is not None:
        ends += [row.hold, _in(at, row.hold_tick - row.counted)]
    return max(ends)


def _in(at: datetime, span: timedelta) -> datetime:
    try:
        return at + span
    except OverflowError:  # a hold for ever, and a day on which nothing was counted
        return _END


def _undelete(connection: Connection, tenant: str, attachment: str) -> Attachment:
    found = select(_ATTACHMENTS).where(
        _ATTACHMENTS.c.id == attachment,
        _ATTACHMENTS.c.tenant == tenant,
        tables.IN_TRASH,
        _ATTACHMENTS.c.current.is_not(None),
    )
    row = connection.execute(found.with_for_update()).first()
    if row is None:
        raise NotFound("no such attachment in the trash")
    taken = select(_ATTACHMENTS.c.id).where(
        _ATTACHMENTS.c.tenant == tenant, _ATTACHMENTS.c.reference == row.reference, tables.LIVE
    )
    if connection.scalar(taken) is not None:
        raise CatalogConflict("its reference belongs to another attachment now")
    back = update(_ATTACHMENTS).where(_ATTACHMENTS.c.id == attachment)
    connection.execute(back.values(deleted=None, deleted_tick=None))
    return Attachment(row.id, row.tenant, row.reference, row.created)
