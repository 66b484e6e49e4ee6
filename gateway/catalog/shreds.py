"""Orders to destroy tenants' keys, and tenants whose keys are destroyed, over a SQL database."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select, update

from gateway.catalog import contents, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.holds import no_hold
from gateway.errors import NotFound
from gateway.ports import Shred

_TENANTS = tables.tenants


class SqlShreds:
    """Implements `gateway.ports.Shreds`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def order(self, tenant: str, due: datetime | None) -> None:
        """Implement `Shreds.order`."""
        await self._database.write(bound(_order, tenant, due))

    async def bury(self, tenants: Sequence[str]) -> int:
        """Implement `Shreds.bury`."""
        return await self._database.write(bound(_bury, tenants, self._clock))

    async def shred(self, tenant: str) -> Shred:
        """Implement `Shreds.shred`."""
        return await self._database.glance(bound(_shred, tenant))

    async def held(self, tenant: str) -> datetime | None:
        """Implement `Shreds.held`."""
        return await self._database.read(bound(_held, tenant, self._clock))

    async def due(
        self, at: datetime, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """Implement `Shreds.due`."""
        return await self._database.read(bound(_due, at, self._clock, after, limit))


def _order(connection: Connection, tenant: str, due: datetime | None) -> None:
    change = update(_TENANTS).where(_TENANTS.c.id == tenant).values(shred_due=due)
    if connection.execute(change).rowcount == 0:
        raise NotFound("no such tenant")


def _bury(connection: Connection, tenants: Sequence[str], clock: Clock) -> int:
    at, buried = clock(connection), 0
    for page in contents.slices(sorted(set(tenants))):
        living = update(_TENANTS).where(_TENANTS.c.id.in_(page), _TENANTS.c.shredded.is_(None))
        buried += connection.execute(living.values(shredded=at, shred_due=None)).rowcount
    return buried


def _shred(connection: Connection, tenant: str) -> Shred:
    query = select(_TENANTS.c.shred_due, _TENANTS.c.shredded).where(_TENANTS.c.id == tenant)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound("no such tenant")
    return Shred(row.shred_due, row.shredded)


def _held(connection: Connection, tenant: str, clock: Clock) -> datetime | None:
    free = no_hold(clock(connection), ticks.counted(connection)).label("free")
    row = connection.execute(select(_TENANTS.c.hold, free).where(_TENANTS.c.id == tenant)).first()
    if row is None:
        raise NotFound("no such tenant")
    return None if row.free else row.hold


def _due(
    connection: Connection, at: datetime, clock: Clock, after: str | None, limit: int
) -> Sequence[str]:
    free = no_hold(clock(connection), ticks.counted(connection))
    query = (
        select(_TENANTS.c.id)
        .where(_TENANTS.c.shred_due <= at, _TENANTS.c.shredded.is_(None), free)
        .order_by(_TENANTS.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(_TENANTS.c.id > after)
    return list(connection.scalars(query))
