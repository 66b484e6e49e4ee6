"""What holds for one tenant: who acknowledges for it, how long things are kept, when its keys are rotated.

Guarantees that nothing is changed unless all that was asked for can be, and that what was not asked for stays
as it is: of the retention also where somebody else changes it at the same time, as by a hold. Of two who
change the quorum, or the rotation, at once the last one wins. Each part is a transaction of its own: after an
answer that was lost a change is repeated. Gateways follow a new quorum within seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from gateway.attachments.tenants import Tenants
from gateway.attachments.trash import Trash, demand
from gateway.errors import Invalid
from gateway.model import Retention, Tenant
from gateway.ports import Rotation, Wraps

LONGEST: Final = timedelta(days=36_500)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """The three parts. A quorum or a rotation of None is the configured one; of zero: never."""

    quorum: str | None
    retention: Retention
    rotation: Rotation


class Agreements:
    """The use case: the terms of all tenants."""

    def __init__(self, tenants: Tenants, trash: Trash, wraps: Wraps) -> None:
        self._tenants = tenants
        self._trash = trash
        self._wraps = wraps

    async def of(self, tenant: str) -> tuple[Tenant, Terms]:
        """Return a tenant and its terms. Raises NotFound and CatalogErrors."""
        found = await self._tenants.get(tenant)
        retention = await self._trash.retention(tenant)
        return found, Terms(found.quorum, retention, await self._wraps.schedule(tenant))

    async def change(self, tenant: str, changed: Callable[[Terms], Terms]) -> tuple[Tenant, Terms]:
        """Let `changed` say what is to hold instead; return what does. As `of`, and Invalid."""
        _, now = await self.of(tenant)
        wanted = changed(now)
        if wanted.quorum != now.quorum:  # what stays may ask for a target that is gone
            self._tenants.demand(wanted.quorum)
        demand(wanted.retention)
        if wanted.rotation != now.rotation:
            _demand_rotation(wanted.rotation)
        if wanted.quorum != now.quorum:
            await self._tenants.set_quorum(tenant, wanted.quorum)
        if wanted.retention != now.retention:
            await self._trash.amend(
                tenant, lambda found: changed(replace(now, retention=found)).retention
            )
        if wanted.rotation != now.rotation:
            await self._wraps.set_schedule(tenant, wanted.rotation)
        if wanted != now:
            log.info("terms changed", tenant=tenant)
        return await self.of(tenant)


def _demand_rotation(rotation: Rotation) -> None:
    for span in (rotation.kek, rotation.root):
        if span is not None and not timedelta() <= span <= LONGEST:
            raise Invalid(f"keys are rotated every {LONGEST.days} days at the least, or never: 0")
