"""Creates tenants, first the KEK in the key service, then the row, and sets their quorum.

No row lacks its key. A crash in between leaves a KEK that nobody uses, which is harmless.
"""

from collections.abc import Sequence
from typing import Final

from gateway.errors import Invalid
from gateway.keys.data_keys import KeyService
from gateway.model import Tenant, new_id, now
from gateway.ports import Catalog
from gateway.targets.quorum import Quorum, Target

TIERS: Final = ("standard", "business")


class Tenants:
    """The use case, over one catalog and one key service."""

    def __init__(self, catalog: Catalog, keys: KeyService, targets: Sequence[Target] = ()) -> None:
        self._catalog = catalog
        self._keys = keys
        self._targets = tuple(targets)

    async def create(self, *, tier: str = "standard", request_id: str = "") -> Tenant:
        """Create a tenant with a fresh random id."""
        if tier not in TIERS:
            raise Invalid(f"tier is one of {', '.join(TIERS)}")
        tenant = Tenant(id=new_id(), tier=tier, created=now())
        await self._keys.create_tenant(tenant.id, tier=tier, request_id=request_id)
        await self._catalog.add_tenant(tenant)
        return tenant

    async def get(self, tenant: str) -> Tenant:
        """Return a tenant. Raises NotFound."""
        return await self._catalog.tenant(tenant)

    async def set_quorum(self, tenant: str, policy: str | None) -> Tenant:
        """Give a tenant a policy of its own, or the configured one again; return the tenant.

        Raises NotFound, and Invalid for what is no policy or could never be satisfied here.
        """
        await self._catalog.set_quorum(tenant, self.demand(policy))
        return await self._catalog.tenant(tenant)

    def demand(self, policy: str | None) -> str | None:
        """Return a policy as it is written, if it can be satisfied here. Raises Invalid."""
        try:
            quorum = None if policy is None else Quorum.parse(policy)
            if quorum is not None:
                quorum.demand(self._targets)
        except ValueError as error:
            raise Invalid(str(error)) from None
        return None if quorum is None else str(quorum)

    async def page(self, after: str | None, limit: int) -> Sequence[Tenant]:
        """Return up to `limit` tenants in order of id."""
        return await self._catalog.tenants(after, limit)


def shown(tenant: Tenant) -> dict[str, str]:
    """Return a tenant as the API and the commands show it."""
    return {"tenant": tenant.id, "tier": tenant.tier, "created": tenant.created.isoformat()}
