"""Carries out orders to destroy tenants' keys when their time is up, and finds those it was not told of.

Guarantees that an order which is due is carried out by whichever worker comes first, once by its effect
however often it is tried; that none is for a tenant under a hold; that whether it is due is the key
service's to say; and that an order given or undone without the catalog's knowledge, or forgotten by a
catalog that was restored, is found by `sweep`.
What the tenant had in stores is the purger's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from gateway.model import moment, now
from gateway.ports import Catalog, Shreds, Told, untold
from gateway.shredding.keys import ShredKeys, Standings
from keyservice.wire import KeyServiceError, Shredded, TenantKeys, UnknownTenant, WrongState

PAGE: Final = 200
REASON: Final = "the order's time is up"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Executed:
    """What one run did: orders whose time had come, those carried out, and those that wait."""

    due: int = 0
    done: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a look at all tenants found: orders that wait, and tenants that are dead."""

    tenants: int = 0
    ordered: int = 0
    dead: int = 0


class ShredOrders:
    """The use case, over one key service and one catalog."""

    def __init__(
        self, keys: Standings, control: ShredKeys, catalog: Catalog, shreds: Shreds
    ) -> None:
        self._keys = keys
        self._control = control
        self._catalog = catalog
        self._shreds = shreds

    async def run(self, at: datetime | None = None) -> Executed:
        """Carry out what is due. Raises CatalogErrors."""
        due = done = waiting = 0
        last: str | None = None
        # One by one: a hold that comes while another order is carried out has to count.
        while page := await self._shreds.due(at or now(), after=last, limit=1):
            (last,) = page
            due += 1
            if await self._execute(last):
                done += 1
            else:
                waiting += 1
        if due:
            log.warning("orders to destroy keys", due=due, done=done, waiting=waiting)
        return Executed(due, done, waiting)

    async def sweep(self, told: Told = untold) -> Swept:
        """Ask after every tenant, and remember what is ordered. KeyServiceErrors, CatalogErrors."""
        tenants = ordered = dead = 0
        last: str | None = None
        while page := await self._catalog.tenants(last, PAGE):
            last = page[-1].id
            for tenant in page:
                tenants += 1
                state = await self._learn(tenant.id)
                ordered += state == "shredding"
                if state == "shredded":
                    # Again, since the ledger may have been lost before it was copied.
                    dead += await self._execute(tenant.id)
            await told({"tenants": tenants, "ordered": ordered, "dead": dead})
        return Swept(tenants, ordered, dead)

    async def learn(self, tenant: str) -> None:
        """Remember what the key service says of one tenant. KeyServiceErrors, CatalogErrors."""
        if await self._learn(tenant) == "shredded":
            await self._bury([tenant])

    async def _execute(self, tenant: str) -> bool:
        try:
            await self._control.execute_shred(tenant, reason=REASON)
        except WrongState:
            await self._learn(tenant)  # undone, or not due by the key service's clock
            return False
        except Shredded:
            pass  # and no order is left to carry out
        except KeyServiceError as error:
            log.warning("order waits", tenant=tenant, reason=error.code)
            return False
        await self._bury([tenant])
        return True

    async def _bury(self, tenants: Sequence[str]) -> None:
        if tenants:
            await self._shreds.bury(tenants)

    async def _learn(self, tenant: str) -> str:
        try:
            keys = await self._keys.tenant(tenant)
        except UnknownTenant:
            return ""
        if keys.state != "shredded":
            await self._shreds.order(tenant, _due(keys))
        return keys.state


def _due(keys: TenantKeys) -> datetime | None:
    """Return when an order may be carried out: one that was approved or has begun, at once."""
    order = keys.order
    if keys.state != "shredding" or order is None:
        return None
    return moment(order.ordered if order.approved or order.began else order.due)
