"""What administration asks of a key service, in memory: records as values, no key anywhere."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.model import microseconds, now
from keyservice.wire import (
    Kek,
    KeyServiceError,
    Rate,
    RootVersions,
    TenantKeys,
    TenantRoot,
    UnknownTenant,
    WrongState,
)


class MemoryControl:
    """Satisfies `gateway.keys.data_keys.KeyControl`. A tenant in `refuse` gets that raised, by any call."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self.clock = clock
        self.notice = timedelta()  # before a KEK that was replaced may be retired
        self.tenants: dict[str, TenantKeys] = {}
        self.roots: dict[str, RootVersions] = {}
        self.shared = RootVersions(1, 1, microseconds(clock()))
        self.refuse: dict[str, KeyServiceError] = {}
        self.calls: list[tuple[str, str]] = []

    def add(self, tenant: str, *, tier: str = "standard", cache_ttl: float = 0.0) -> TenantKeys:
        """Create a tenant."""
        own = tier == "business"
        self.roots[tenant] = RootVersions(1, 1, microseconds(self.clock()))
        self.tenants[tenant] = TenantKeys(
            tier,
            "active",
            root=TenantRoot("own" if own else "shared"),
            cache_ttl=cache_ttl,
            keks=(self._kek(tenant, 1),),
        )
        return self.tenants[tenant]

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        del request_id
        return self._found("tenant", tenant)

    async def rotate_kek(
        self, tenant: str, expected: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del reason, request_id
        keys = self._found("rotate_kek", tenant)
        if keys.current is None or keys.current.id != expected:
            return keys
        until = microseconds(self.clock() + self.notice)
        retired = replace(keys.current, state="retired", retirable=until)
        older = [retired if k.id == expected else k for k in keys.keks]
        return self._set(tenant, keks=(*older, self._kek(tenant, len(older) + 1)))

    async def retire_kek(
        self, tenant: str, kek: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del reason, request_id
        keys = self._found("retire_kek", tenant)
        if any(each.id == kek and each.state == "current" for each in keys.keks):
            raise WrongState("the KEK is current: rotate it first")
        if any(each.id == kek and self._is_kept(each) for each in keys.keks):
            raise WrongState("the KEK was replaced lately")
        gone = [
            replace(k, state="destroyed", retirable=None) if k.id == kek else k for k in keys.keks
        ]
        return self._set(tenant, keks=tuple(gone))

    async def rotate_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        del reason, request_id
        keys = self._found("rotate_root", tenant)
        latest = self.roots[tenant].latest + 1
        self.roots[tenant] = RootVersions(latest, latest, microseconds(self.clock()))
        return keys

    async def rewrap_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        del reason, request_id
        return self._found("rewrap_root", tenant)

    async def root(self, tenant: str, *, request_id: str = "") -> RootVersions:
        del request_id
        self._found("root", tenant)
        return self.roots[tenant]

    async def destroy_root(
        self, tenant: str, name: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del name, reason, request_id
        return self._found("destroy_root", tenant)

    async def move(
        self, tenant: str, tier: str, root: TenantRoot, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del reason, request_id
        self._found("move", tenant)
        return self._set(tenant, tier=tier, root=root)

    async def settings(
        self,
        tenant: str,
        *,
        reason: str,
        cache_ttl: float | None = None,
        rate: Rate | None = None,
        unlimited: bool = False,
        request_id: str = "",
    ) -> TenantKeys:
        del reason, unlimited, request_id
        keys = self._found("settings", tenant)
        return self._set(tenant, cache_ttl=cache_ttl or keys.cache_ttl, rate=rate)

    async def mend(
        self, tenant: str, revision: int, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        del revision, reason, request_id
        return self._found("mend", tenant)

    async def suspend(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        del reason, request_id
        self._found("suspend", tenant)
        return self._set(tenant, state="suspended")

    async def resume(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        del reason, request_id
        self._found("resume", tenant)
        return self._set(tenant, state="active")

    async def shared_root(self, *, request_id: str = "") -> RootVersions:
        del request_id
        return self.shared

    async def rotate_shared(
        self, expected: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        del reason, request_id
        if self.shared.latest == expected:
            made = microseconds(self.clock())
            self.shared = RootVersions(expected + 1, self.shared.minimum, made)
        return self.shared

    async def retire_shared(
        self, minimum: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        del reason, request_id
        self.shared = replace(self.shared, minimum=minimum)
        return self.shared

    def called(self, name: str) -> list[str]:
        """Return the tenants for which something was asked."""
        return [tenant for call, tenant in self.calls if call == name]

    def _found(self, call: str, tenant: str) -> TenantKeys:
        self.calls.append((call, tenant))
        if tenant in self.refuse:
            raise self.refuse[tenant]
        if tenant not in self.tenants:
            raise UnknownTenant("no such tenant")
        return self.tenants[tenant]

    def _is_kept(self, kek: Kek) -> bool:
        return kek.retirable is not None and microseconds(self.clock()) < kek.retirable

    def _set(self, tenant: str, **changes: object) -> TenantKeys:
        keys = replace(self.tenants[tenant], **changes)  # type: ignore[arg-type]  # as given above
        self.tenants[tenant] = keys
        return keys

    def _kek(self, tenant: str, number: int) -> Kek:
        return Kek(f"{tenant}/{number}-0000000{number}", "current", microseconds(self.clock()), 1)
