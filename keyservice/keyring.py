"""Tenants' opened KEKs, cached for each tenant's own time.

Guarantees: an opened KEK is used no longer than the tenant's `cache_ttl` after its record was last
read from the key store, so that time bounds every revocation; while the root is gone, cached
tenants go on until then and others get Unavailable. A tenant that is not active is never cached.
Every use is checked against the record; the cache key of a KEK holds all that the record says.
It does not audit or authorise: `service` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from keyservice.errors import CannotUnwrap, Shredded, Shredding, Suspended, Unavailable
from keyservice.flight import FlightCache, Loaded
from keyservice.ports import KeyStore, Root
from keyservice.records import KekState, KekVersion, RootRef, TenantRecord, TenantState

RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Tenancy:
    """An active tenant's record, and the monotonic time until which it may be acted upon."""

    record: TenantRecord
    version: int
    deadline: float


@dataclass(frozen=True, slots=True)
class KekKey:
    """What the right to use an opened KEK depends on."""

    tenant: str
    root: RootRef
    tenant_state: TenantState
    kek_id: str
    kek_state: KekState
    wrapped: str


class Keyring:
    """Reads records and opens KEKs, each once for all who wait."""

    def __init__(
        self,
        root: Root,
        store: KeyStore,
        *,
        capacity: int = 10_000,
        max_ttl: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._store = store
        self._max_ttl = max_ttl
        self._clock = clock
        self.tenancies: FlightCache[str, Tenancy] = FlightCache(capacity, clock)
        self.keks: FlightCache[KekKey, bytes] = FlightCache(capacity, clock)

    async def tenancy(self, tenant: str) -> Tenancy:
        """Return the tenant's record; raise UnknownTenant, Suspended, Shredded or Unavailable."""
        loaded = await self.tenancies.get(tenant, lambda: self._read(tenant))
        return loaded.value

    async def kek(self, tenancy: Tenancy, kek_id: str) -> bytes:
        """Return the opened KEK; raise CannotUnwrap when it is not the tenant's, or Unavailable."""
        record = tenancy.record
        version = record.kek(kek_id)
        if version is None:
            raise CannotUnwrap
        key = KekKey(
            record.tenant, record.root, record.state, version.id, version.state, version.wrapped
        )
        loaded = await self.keks.get(key, lambda: self._open(tenancy, version))
        return loaded.value

    def fresh(self, tenant: str) -> float:
        """Return for how many seconds what was answered for the tenant just now may be kept."""
        cached = self.tenancies.peek(tenant)
        return 0.0 if cached is None else max(0.0, cached.deadline - self._clock())

    async def _read(self, tenant: str) -> Loaded[Tenancy]:
        # The time runs from before the read: a revocation during it must count as later.
        started = self._clock()
        try:
            held = await self._store.read(tenant)
        except Unavailable as error:
            raise _later(error, "key store does not answer") from error
        record = held.record
        if record.tenant != tenant:
            raise Unavailable("key store returned another tenant's record")
        if record.state is TenantState.SUSPENDED:
            raise Suspended("tenant is suspended")
        if record.state is TenantState.SHREDDING:
            raise Shredding("tenant's keys are to be destroyed; undo the order to use them again")
        if record.state is TenantState.SHREDDED:
            raise Shredded("tenant's keys are destroyed")
        deadline = started + min(record.cache_ttl, self._max_ttl)
        return Loaded(Tenancy(record, held.version, deadline), deadline)

    async def _open(self, tenancy: Tenancy, version: KekVersion) -> Loaded[bytes]:
        record = tenancy.record
        try:
            kek = await self._root.unwrap(record.tenant, record.root, version.wrapped)
        except Unavailable as error:
            raise _later(error, "root key does not answer") from error
        return Loaded(kek, tenancy.deadline)


def _later(error: Unavailable, message: str) -> Unavailable:
    """Give the caller a time to come back, and none of the adapter's words."""
    return Unavailable(message, retry_after=error.retry_after or RETRY_AFTER)
