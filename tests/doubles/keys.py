"""A key service in memory for unit tests: real wraps under a tenant's KEKs, no network, no policy."""

import os
from collections.abc import Sequence

from envelope.errors import EnvelopeError
from envelope.wrap import kek_id, unwrap, wrap
from keyservice.wire import (
    CannotUnwrap,
    DataKey,
    Kek,
    KeyServiceError,
    Shredded,
    Status,
    Suspended,
    TenantKeys,
    Unavailable,
    UnknownTenant,
    WrappedKey,
)


class MemoryKeys:
    """Satisfies `gateway.keys.data_keys.KeyService`. Set `down` to make every call unavailable.

    It rotates KEKs, too. A tenant in `behind` gets data keys under the KEK named there, as from an
    instance that has not heard of a rotation.
    """

    def __init__(self, cache_ttl: float = 0.0) -> None:
        self.down = False
        self.fresh = 3600.0  # seconds for which answers may be kept
        self.unwraps = 0
        self.rewraps = 0
        self.made: list[int] = []  # how many data keys each request made
        self.states: dict[str, str] = {}  # of tenants that are not active
        self.reasons: list[str] = []  # given when keys were unwrapped
        self.behind: dict[str, str] = {}
        self.cache_ttl = cache_ttl
        self._keks: dict[str, dict[str, bytes]] = {}  # the current one is the last
        self.tiers: dict[str, str] = {}

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        del request_id
        self._up()
        if tenant not in self._keks:
            self._keks[tenant] = {}
            self._add(tenant)
        self.tiers.setdefault(tenant, tier)

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        del request_id
        self._up()
        if tenant not in self._keks:
            raise UnknownTenant("no such tenant")
        state = self.states.get(tenant, "active")
        current = self.current(tenant)
        keks = tuple(
            Kek(kek, "current" if kek == current else "retired", 0, 1) for kek in self._keks[tenant]
        )
        return TenantKeys(self.tiers[tenant], state, cache_ttl=self.cache_ttl, keks=keks)

    async def rotate_kek(
        self, tenant: str, expected: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del reason, request_id
        self._active(tenant)
        if self.current(tenant) == expected:
            self._add(tenant)
        return await self.tenant(tenant)

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        del request_id
        self._active(tenant)

    def remembered(self, tenant: str) -> bool:
        """Remember nothing."""
        del tenant
        return False

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        del reason, request_id
        keks = self._active(tenant)
        name = self.behind.get(tenant, self.current(tenant))
        self.made.append(len(contexts))
        made: list[DataKey | KeyServiceError] = []
        for context in contexts:
            dek = os.urandom(32)
            made.append(DataKey(dek, wrap(keks[name], name, dek, context), name, self.fresh))
        return made

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        del request_id
        keks = self._active(tenant)
        self.unwraps += 1
        self.reasons.append(reason)
        return [_open(keks, key) for key in keys]

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        del reason, request_id
        keks, current = self._active(tenant), self.current(tenant)
        self.rewraps += 1
        found: list[bytes | KeyServiceError] = []
        for key in keys:
            dek = _open(keks, key)
            if isinstance(dek, bytes) and kek_id(key.wrapped) != current:
                dek = wrap(keks[current], current, dek, key.context)
            elif isinstance(dek, bytes):
                dek = key.wrapped
            found.append(dek)
        return found

    async def status(self) -> Status:
        self._up()
        return Status("local", healthy=True, detail="in memory")

    def current(self, tenant: str) -> str:
        """Return the id of a tenant's current KEK."""
        return list(self._keks[tenant])[-1]

    def forget(self, tenant: str, kek: str) -> None:
        """Destroy a KEK."""
        del self._keks[tenant][kek]

    def _add(self, tenant: str) -> None:
        keks = self._keks[tenant]
        keks[f"{tenant}/{len(keks) + 1}-{os.urandom(4).hex()}"] = os.urandom(32)

    def _up(self) -> None:
        if self.down:
            raise Unavailable("the key service is down")

    def _active(self, tenant: str) -> dict[str, bytes]:
        self._up()
        if tenant not in self._keks:
            raise UnknownTenant("no such tenant")
        if self.states.get(tenant) == "shredded":
            raise Shredded("the tenant's keys are destroyed")
        if self.states.get(tenant) == "suspended":
            raise Suspended("the tenant is suspended")
        return self._keks[tenant]


def _open(keks: dict[str, bytes], key: WrappedKey) -> bytes | KeyServiceError:
    try:
        return unwrap(keks[kek_id(key.wrapped)], key.wrapped, key.context)
    except (EnvelopeError, KeyError):
        return CannotUnwrap()
