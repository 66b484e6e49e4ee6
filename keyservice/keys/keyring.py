"""Tenants' records and their opened KEKs, cached for each tenant's own time.

Guarantees: an opened KEK is used no longer than the tenant's `cache_ttl` after its record was last
read from the key store, so that time bounds every revocation; while the root is gone, cached
tenants go on until then and others get Unavailable. A tenant that is not active is never cached.
A record acts only when its seal proves it and it is at the version under which the key store has it:
one that was altered or written back is Altered. Every use is checked against the record; the cache key
of a KEK holds all that the record says. Whoever saw a revision is given no older one, unless the key
store itself went back. It does not audit or authorise: the desk does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from keyservice.errors import (
    Altered,
    CannotUnwrap,
    Shredded,
    Shredding,
    Suspended,
    Unavailable,
    UnknownTenant,
)
from keyservice.keys import seal
from keyservice.keys.flight import FlightCache, Loaded
from keyservice.keys.kek import is_newer
from keyservice.ports import KeyStore, Root, Unconfigured
from keyservice.records import KekState, KekVersion, RootRef, TenantRecord, TenantState, Versioned

RETRY_AFTER = 5.0
READS = 3

log = structlog.get_logger(__name__)


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

    async def tenancy(self, tenant: str, *, at_least: int = 0) -> Tenancy:
        """Return the tenant's record; raise UnknownTenant, Suspended, Shredded or Unavailable.

        One that is cached at a revision before `at_least` is read again.
        """
        for _ in range(READS):
            loaded = await self.tenancies.get(tenant, lambda: self._active(tenant))
            if loaded.value.version >= at_least:
                break
            self.tenancies.discard(tenant, loaded)
        else:
            log.info("key store has nothing newer", tenant=tenant, asked=at_least)
        return loaded.value

    async def kek(self, tenancy: Tenancy, kek_id: str) -> bytes:
        """Return the opened KEK; raise CannotUnwrap when it is not the tenant's, or Unavailable."""
        try:
            return await self._kek(tenancy, kek_id)
        except (CannotUnwrap, UnknownTenant):
            # Another instance may have made it since, or wrapped it anew and retired the old root.
            if tenancy.record.kek(kek_id) is None and not is_newer(kek_id, tenancy.record):
                raise
            newer = await self.tenancy(tenancy.record.tenant, at_least=tenancy.version + 1)
            if newer.version <= tenancy.version:
                raise
            return await self._kek(newer, kek_id)

    def left(self, tenancy: Tenancy) -> float:
        """Return for how many seconds more what was read may be acted upon."""
        return max(0.0, tenancy.deadline - self._clock())

    async def read(self, tenant: str) -> Versioned:
        """Return the record as the key store has it now, whatever its state; unproven but for its age.

        Raises UnknownTenant, Altered when it is not at its own version, or Unavailable.
        """
        try:
            held = await self._store.read(tenant)
        except Unavailable as error:
            raise _later(error, "key store does not answer") from error
        if held.record.tenant != tenant:
            raise Unavailable("key store returned another tenant's record")
        if held.record.revision != held.version:
            raise Altered
        return held

    async def current(self, record: TenantRecord) -> bytes:
        """Return the opened KEK of a record that is current in it; raise Altered or Unavailable."""
        return await self._current(Tenancy(record, record.revision, self._clock()))

    def drop(self, tenant: str) -> None:
        """Forget all that is cached of the tenant."""
        self.tenancies.drop(lambda key: key == tenant)
        self.keks.drop(lambda key: key.tenant == tenant)

    async def _kek(self, tenancy: Tenancy, kek_id: str) -> bytes:
        record = tenancy.record
        version = record.kek(kek_id)
        if version is None:
            raise CannotUnwrap
        key = KekKey(
            record.tenant, record.root, record.state, version.id, version.state, version.wrapped
        )
        loaded = await self.keks.get(key, lambda: self._open(tenancy, version))
        return loaded.value

    async def _current(self, tenancy: Tenancy) -> bytes:
        version = tenancy.record.current
        if version is None:
            raise Altered
        try:
            return await self._kek(tenancy, version.id)
        except CannotUnwrap:
            raise Altered from None
        except UnknownTenant:
            raise Unavailable("tenant's root key is gone: restore it", retry_after=60.0) from None

    async def _active(self, tenant: str) -> Loaded[Tenancy]:
        # The time runs from before the read: a revocation during it must count as later.
        started = self._clock()
        held = await self.read(tenant)
        record = held.record
        if record.state is TenantState.SUSPENDED:
            raise Suspended("tenant is suspended")
        if record.state is TenantState.SHREDDING:
            raise Shredding("tenant's keys are to be destroyed; undo the order to use them again")
        if record.state is TenantState.SHREDDED:
            raise Shredded("tenant's keys are destroyed")
        deadline = started + min(record.cache_ttl, self._max_ttl)
        tenancy = Tenancy(record, held.version, deadline)
        if not seal.proves(await self._current(tenancy), record):
            raise Altered
        return Loaded(tenancy, deadline)

    async def _open(self, tenancy: Tenancy, version: KekVersion) -> Loaded[bytes]:
        record = tenancy.record
        try:
            kek = await self._root.unwrap(record.tenant, record.root, version.wrapped)
        except Unavailable as error:
            raise _later(error, "root key does not answer") from error
        return Loaded(kek, tenancy.deadline)


def _later(error: Unavailable, message: str) -> Unavailable:
    """Give the caller a time to come back, and none of the adapter's words but those on settings."""
    if isinstance(error, Unconfigured):
        return error
    return Unavailable(message, retry_after=error.retry_after or RETRY_AFTER)
