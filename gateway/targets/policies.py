"""Which quorum a tenant's uploads need: its own policy, or the configured one.

A policy that was read is believed for `fresh` seconds, so that uploads cost the catalog nothing more:
that is how long other processes may go on with the one before after it was changed.
"""

import time
from collections.abc import Callable

from gateway.ports import Catalog
from gateway.targets.quorum import Quorum, QuorumLost

MOST = 10_000  # tenants remembered at a time


class Policies:
    """The policies of all tenants, over one catalog. `default` is for tenants without their own."""

    def __init__(
        self,
        catalog: Catalog,
        default: Quorum,
        *,
        fresh: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default = default
        self._catalog = catalog
        self._fresh = fresh
        self._clock = clock
        self._read: dict[str, tuple[Quorum, float]] = {}

    async def of(self, tenant: str) -> Quorum:
        """Return a tenant's policy. Raises NotFound, CatalogErrors, and QuorumLost for an unknown one."""
        read, until = self._read.get(tenant, (self.default, 0.0))
        if self._clock() < until:
            return read
        if len(self._read) >= MOST:
            self._read.clear()
        own = (await self._catalog.tenant(tenant)).quorum
        try:
            quorum = self.default if own is None else Quorum.parse(own)
        except ValueError as error:
            raise QuorumLost(f"the tenant's policy is not known to this gateway: {error}") from None
        self._read[tenant] = quorum, self._clock() + self._fresh
        return quorum
