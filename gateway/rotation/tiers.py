"""Moves tenants between tiers and roots: in the key service, whose word counts, then in the catalog's row.

Guarantees that a move which was interrupted anywhere is completed by asking for it again, or by `follow`,
which whoever looks after rotations calls for every tenant: the row says what the key service says. Nothing
is decided by the row but which defaults hold. KEKs are wrapped anew; envelopes and bodies stay.
"""

import secrets

import structlog

from gateway.errors import Invalid
from gateway.keys.data_keys import KeyControl
from gateway.model import Tenant, new_id
from gateway.ports import Catalog
from keyservice.wire import TenantKeys, TenantRoot

log = structlog.get_logger()


class Tiers:
    """The use case."""

    def __init__(self, catalog: Catalog, control: KeyControl) -> None:
        self._catalog = catalog
        self._control = control

    async def move(
        self,
        tenant: str,
        *,
        tier: str | None = None,
        held: str | None = None,
        fresh: bool = False,
        reason: str,
    ) -> TenantKeys:
        """Move a tenant: to a tier, to the root that is `held` under a name, to a `fresh` root of its own.

        Where it is there already nothing changes; a fresh root is made each time, which to a tenant on its
        way to business is its first. Raises NotFound, CatalogErrors and KeyServiceErrors.
        """
        row = await self._catalog.tenant(tenant)
        now = await self._control.tenant(tenant)
        wanted = tier or now.tier
        root = _root(now, wanted, held, fresh=fresh)
        moved = await self._control.move(tenant, wanted, root, reason=reason, request_id=new_id())
        await self.follow(row, moved)
        return moved

    async def follow(self, row: Tenant, keys: TenantKeys) -> None:
        """Have the row say what the key service says. Raises CatalogErrors."""
        if row.tier != keys.tier:
            await self._catalog.set_tier(row.id, keys.tier)
            log.info("tier noted", tenant=row.id, old=row.tier, new=keys.tier)


def _root(now: TenantKeys, tier: str, held: str | None, *, fresh: bool) -> TenantRoot:
    if tier == "standard":
        if fresh or held is not None:
            raise Invalid("a standard tenant shares the root of all: move it to business with it")
        return TenantRoot("shared")
    if held is not None:
        return TenantRoot("held", held)
    if now.root.custody == "shared" or fresh:
        # Named by chance: an own root that it had before may be on its way to be destroyed.
        return TenantRoot("own", secrets.token_hex(4))
    return now.root
