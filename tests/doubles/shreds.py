"""Orders and ends in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import NotFound
from gateway.model import now
from gateway.ports import Shred


@dataclass
class MemoryShreds:
    """Satisfies `gateway.ports.Shreds`."""

    tenants: dict[str, Shred] = field(default_factory=dict)

    async def order(self, tenant: str, due: datetime | None) -> None:
        self.tenants[tenant] = Shred(due, (await self.shred(tenant)).dead)

    async def bury(self, tenants: Sequence[str]) -> int:
        living = [
            each for each in set(tenants) & self.tenants.keys() if not self.tenants[each].dead
        ]
        self.tenants |= dict.fromkeys(living, Shred(dead=now()))
        return len(living)

    async def shred(self, tenant: str) -> Shred:
        if tenant not in self.tenants:
            raise NotFound("no such tenant")
        return self.tenants[tenant]

    async def held(self, tenant: str) -> datetime | None:
        await self.shred(tenant)
        return None  # nothing is ever held here

    async def due(
        self, at: datetime, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        found = sorted(
            tenant
            for tenant, shred in self.tenants.items()
            if shred.due is not None and shred.due <= at and tenant > (after or "")
        )
        return found[:limit]
