"""Which target is the primary, over a SQL database: one row, and none before anybody decided.

A commit reads the epoch (`uploads.commit`), and on PostgreSQL holds `LOCK` shared by then; a decision
takes it alone. So once `promote` returned, no commit that did not see it is still under way.
"""

from sqlalchemy import Connection, func, select, update

from gateway.catalog import tables
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.upsert import insert_new
from gateway.errors import CatalogConflict
from gateway.ports import Placement

_PLACEMENT = tables.placement
LOCK = 0x5EA16A7F  # of PostgreSQL's advisory locks; any number, as long as it is ours
EPOCH = select(_PLACEMENT.c.epoch).where(_PLACEMENT.c.id == 1).scalar_subquery()
_FIRST = insert_new(_PLACEMENT, ["id"])


class SqlPlacements:
    """Implements `gateway.ports.Placements`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def placement(self) -> Placement:
        """Implement `Placements.placement`."""
        return await self._database.read(_placement)

    async def promote(self, primary: str | None, *, epoch: int) -> Placement:
        """Implement `Placements.promote`."""
        return await self._database.write(bound(_promote, primary, epoch, self._clock))


def _placement(connection: Connection) -> Placement:
    row = connection.execute(select(_PLACEMENT)).first()
    return Placement(0, None, None) if row is None else Placement(row.epoch, row.primary, row.since)


def _promote(connection: Connection, primary: str | None, epoch: int, clock: Clock) -> Placement:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    since = clock(connection)
    values = {"epoch": epoch + 1, "primary": primary, "since": since}
    _FIRST.run(connection, id=1, epoch=0, since=since)
    decided = update(_PLACEMENT).where(_PLACEMENT.c.epoch == epoch).values(**values)
    if connection.execute(decided).rowcount == 0:
        raise CatalogConflict("the primary was decided anew meanwhile: look at it again")
    return Placement(epoch + 1, primary, since)
