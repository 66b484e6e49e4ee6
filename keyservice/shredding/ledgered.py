"""The key store as the shred ledger lets it be seen: whoever is in the ledger is dead, whatever it says.

Guarantees that no record of a dead tenant is ever read as anything but SHREDDED, and none is written;
that this needs no key store that answers; and that one which says otherwise, because it was restored
from before, is reported, so that the destruction is carried out again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyservice.errors import Shredded, Unavailable, UnknownTenant
from keyservice.ports import KeyStore, RootStatus
from keyservice.records import TenantRecord, TenantState, Versioned
from keyservice.shredding.destruction import tombstone
from keyservice.shredding.ledger import Ledger


class LedgeredStore:
    """See `KeyStore`. `risen` is told of a tenant that is dead and whose record is not."""

    def __init__(self, store: KeyStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self.risen: Callable[[str], None] = _nobody

    async def read(self, tenant: str) -> Versioned:
        """See `KeyStore.read`."""
        entry = self._ledger.of(tenant)
        if entry is None:
            held = await self._store.read(tenant)
            # Looked up again: an entry may have come while the store was asked.
            entry = self._ledger.of(tenant)
            if entry is None:
                return held
        try:
            held = await self._store.read(tenant)
            if held.record.state is TenantState.SHREDDED:
                return held
        except UnknownTenant:
            pass
        except Unavailable:
            return Versioned(tombstone(entry), 1)
        self.risen(tenant)
        return Versioned(tombstone(entry), 1)

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """See `KeyStore.write`; raises Shredded for the dead."""
        if self._ledger.of(record.tenant) is not None:
            raise Shredded("tenant's keys are destroyed")
        return await self._store.write(record, expected_version)

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        """See `KeyStore.past`."""
        if self._ledger.of(tenant) is not None:
            return None
        return await self._store.past(tenant, version)

    async def forget(self, tenant: str, before: int) -> None:
        """See `KeyStore.forget`."""
        await self._store.forget(tenant, before)

    async def tenants(self) -> Sequence[str]:
        """See `KeyStore.tenants`."""
        return await self._store.tenants()

    async def status(self) -> RootStatus:
        """See `KeyStore.status`."""
        return await self._store.status()

    async def close(self) -> None:
        """See `KeyStore.close`."""
        await self._store.close()


def _nobody(_tenant: str) -> None:
    """Tell nobody."""
