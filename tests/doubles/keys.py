"""A key service in memory for unit tests: real wraps under one KEK a tenant, no network, no policy."""

import os
from collections.abc import Sequence

from envelope.errors import EnvelopeError
from envelope.wrap import unwrap, wrap
from keyservice.wire import (
    CannotUnwrap,
    DataKey,
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
    """Satisfies `gateway.keys.KeyService`. Set `down` to make every call unavailable."""

    def __init__(self) -> None:
        self.down = False
        self.fresh = 3600.0  # seconds for which answers may be kept
        self.unwraps = 0
        self.made: list[int] = []  # how many data keys each request made
        self.states: dict[str, str] = {}  # of tenants that are not active
        self.reasons: list[str] = []  # given when keys were unwrapped
        self._keks: dict[str, bytes] = {}
        self.tiers: dict[str, str] = {}

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        del request_id
        self._up()
        self._keks.setdefault(tenant, os.urandom(32))
        self.tiers.setdefault(tenant, tier)

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        del request_id
        self._up()
        if tenant not in self._keks:
            raise UnknownTenant("no such tenant")
        return TenantKeys(self.tiers[tenant], self.states.get(tenant, "active"))

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        del request_id
        self._kek(tenant)

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        del reason, request_id
        kek = self._kek(tenant)
        self.made.append(len(contexts))
        made: list[DataKey | KeyServiceError] = []
        for context in contexts:
            dek = os.urandom(32)
            made.append(DataKey(dek, wrap(kek, "k1", dek, context), "k1", self.fresh))
        return made

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        del request_id
        kek = self._kek(tenant)
        self.unwraps += 1
        self.reasons.append(reason)
        opened: list[bytes | KeyServiceError] = []
        for key in keys:
            try:
                opened.append(unwrap(kek, key.wrapped, key.context))
            except EnvelopeError:
                opened.append(CannotUnwrap())
        return opened

    async def status(self) -> Status:
        self._up()
        return Status("local", healthy=True, detail="in memory")

    def _up(self) -> None:
        if self.down:
            raise Unavailable("the key service is down")

    def _kek(self, tenant: str) -> bytes:
        self._up()
        if tenant not in self._keks:
            raise UnknownTenant("no such tenant")
        if self.states.get(tenant) == "shredded":
            raise Shredded("the tenant's keys are destroyed")
        if self.states.get(tenant) == "suspended":
            raise Suspended("the tenant is suspended")
        return self._keks[tenant]
