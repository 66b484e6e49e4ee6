"""The client's face for those who change how keys are kept, beside the one for those who use keys.

Every call may be repeated. Each answers the tenant as it is then, and tells `changed`, so that whoever
shares the connection forgets what it cached and asks no instance that is behind.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from keyservice import parcel
from keyservice.client.transport import Transport, checked, demand_tenant
from keyservice.errors import KeyServiceError
from keyservice.protocol.messages import (
    Because,
    DestroyRoot,
    ImportRoot,
    JournalView,
    Mend,
    Move,
    RateView,
    RetireKek,
    RetireShared,
    RootView,
    RotateKek,
    RotateShared,
    Settings,
    TenantView,
    VersionsView,
    WrappingKey,
)
from keyservice.wire import JournalPage, Kek, Rate, RootVersions, ShredOrder, TenantKeys, TenantRoot

LONG = 60.0
"""Seconds for what asks the root about every KEK of a tenant, or about every tenant."""


class KeyControl:
    """Operations on tenants and roots, over a transport that somebody else opens and closes."""

    def __init__(self, transport: Transport, changed: Callable[[str], None]) -> None:
        self._transport = transport
        self._changed = changed

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return what the key store says of a tenant now; UnknownTenant."""
        demand_tenant(tenant)
        path = f"/v1/tenants/{tenant}"
        view = await self._transport.ask("GET", path, None, TenantView, request_id=request_id)
        return shown(view, tenant, self._transport)

    async def journal(
        self, tenant: str, *, after: int = 0, limit: int = 500, request_id: str = ""
    ) -> JournalPage:
        """Return lines of the tenant's key journal after a number; UnknownTenant."""
        demand_tenant(tenant)
        path = f"/v1/tenants/{tenant}/journal?after={after}&limit={limit}"
        view = await self._transport.ask(
            "GET", path, None, JournalView, request_id=request_id, seconds=LONG
        )
        if view.tenant != tenant or len(view.entries) > limit:
            raise KeyServiceError("key service answered something else than was asked for")
        return JournalPage(view.entries, view.head)

    async def rotate_kek(
        self, tenant: str, expected: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Replace the KEK `expected` by a new one; where another is current, change nothing."""
        message = checked(RotateKek, reason=reason, expected=expected)
        return await self.change(tenant, "kek/rotate", message, request_id=request_id)

    async def retire_kek(
        self, tenant: str, kek: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Destroy a KEK that is not current, for good."""
        message = checked(RetireKek, reason=reason, kek=kek)
        return await self.change(tenant, "kek/retire", message, request_id=request_id)

    async def rotate_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Rotate the tenant's own root, or finish a rotation that was begun."""
        message = checked(Because, reason=reason)
        return await self.change(tenant, "root/rotate", message, request_id=request_id)

    async def rewrap_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Wrap the tenant's KEKs under the newest version of its root."""
        message = checked(Because, reason=reason)
        return await self.change(tenant, "root/rewrap", message, request_id=request_id)

    async def root(self, tenant: str, *, request_id: str = "") -> RootVersions:
        """Return which versions the tenant's root has."""
        demand_tenant(tenant)
        path = f"/v1/tenants/{tenant}/root"
        return _versions(
            await self._transport.ask("GET", path, None, VersionsView, request_id=request_id)
        )

    async def import_root(
        self,
        tenant: str,
        key: bytes,
        *,
        reason: str,
        rotatable: bool = False,
        new_version: bool = False,
        request_id: str = "",
    ) -> TenantKeys:
        """Bring a root key of 32 bytes, as a new root or as the next version of the one supplied.

        It is packed here, for the root behind the key service, and leaves this process in no other form.
        """
        demand_tenant(tenant)
        packed = parcel.pack(await self.wrapping_key(request_id=request_id), key)
        return await self.import_parcel(
            tenant,
            packed,
            reason=reason,
            rotatable=rotatable,
            new_version=new_version,
            request_id=request_id,
        )

    async def wrapping_key(self, *, request_id: str = "") -> str:
        """Return the public key, in PEM, for which root keys are packed."""
        view = await self._transport.ask(
            "GET", "/v1/import-key", None, WrappingKey, request_id=request_id, seconds=LONG
        )
        return view.public_key

    async def import_parcel(
        self,
        tenant: str,
        packed: bytes,
        *,
        reason: str,
        rotatable: bool = False,
        new_version: bool = False,
        request_id: str = "",
    ) -> TenantKeys:
        """Bring a root key that was packed elsewhere."""
        message = checked(
            ImportRoot, reason=reason, parcel=packed, rotatable=rotatable, new_version=new_version
        )
        return await self.change(tenant, "root/import", message, request_id=request_id)

    async def destroy_root(
        self, tenant: str, name: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Destroy an own root that the tenant was moved away from, for good."""
        message = checked(DestroyRoot, reason=reason, name=name)
        return await self.change(tenant, "root/destroy", message, request_id=request_id)

    async def move(
        self, tenant: str, tier: str, root: TenantRoot, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Move the tenant to another tier or root; name a new own root by 8 random hex characters."""
        view = checked(RootView, custody=root.custody, name=root.name, imported=root.imported)
        message = checked(Move, reason=reason, tier=tier, root=view)
        return await self.change(tenant, "move", message, request_id=request_id)

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
        """Set a business tenant's cache time and rate; None leaves one as it is."""
        own = checked(RateView, per_second=rate.per_second, burst=rate.burst) if rate else None
        message = checked(
            Settings, reason=reason, cache_ttl=cache_ttl, rate=own, unlimited=unlimited
        )
        return await self.change(tenant, "settings", message, request_id=request_id)

    async def suspend(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Let nobody use the tenant's keys."""
        message = checked(Because, reason=reason)
        return await self.change(tenant, "suspend", message, request_id=request_id)

    async def resume(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """End a suspension."""
        message = checked(Because, reason=reason)
        return await self.change(tenant, "resume", message, request_id=request_id)

    async def mend(
        self, tenant: str, revision: int, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Bring back the newest genuine record, of that revision, after it was written over."""
        message = checked(Mend, reason=reason, revision=revision)
        return await self.change(tenant, "mend", message, request_id=request_id)

    async def shared_root(self, *, request_id: str = "") -> RootVersions:
        """Return which versions the root has that standard tenants share."""
        return _versions(
            await self._transport.ask("GET", "/v1/root", None, VersionsView, request_id=request_id)
        )

    async def rotate_shared(
        self, expected: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Give it a version after `expected`; where another is the latest, change nothing."""
        message = checked(RotateShared, reason=reason, expected=expected)
        return await self._shared("/v1/root/rotate", message, request_id)

    async def retire_shared(
        self, minimum: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Put its versions before `minimum` out of use; WrongState while a KEK is under one."""
        message = checked(RetireShared, reason=reason, minimum=minimum)
        return await self._shared("/v1/root/retire", message, request_id)

    async def change(
        self, tenant: str, path: str, message: BaseModel, *, request_id: str = ""
    ) -> TenantKeys:
        """Post to a path of the tenant whose answer is the tenant as it is then."""
        demand_tenant(tenant)
        try:
            view = await self._transport.ask(
                "POST",
                f"/v1/tenants/{tenant}/{path}",
                message,
                TenantView,
                request_id=request_id,
                seconds=LONG,
            )
        finally:
            self._changed(tenant)  # also where nobody knows whether it happened
        return shown(view, tenant, self._transport)

    async def _shared(self, path: str, message: BaseModel, request_id: str) -> RootVersions:
        view = await self._transport.ask(
            "POST", path, message, VersionsView, request_id=request_id, seconds=LONG
        )
        return _versions(view)


def shown(view: TenantView, tenant: str, transport: Transport) -> TenantKeys:
    """Return what the answer tells of the tenant, and remember its revision."""
    if view.tenant != tenant:
        raise KeyServiceError("key service answered for another tenant")
    transport.revisions.saw(tenant, view.revision, asked=0)
    rate, order = view.rate, view.order
    return TenantKeys(
        tier=view.tier.value,
        state=view.state.value,
        root=_root(view.root),
        left=tuple(_root(root) for root in view.left),
        revision=view.revision,
        cache_ttl=view.cache_ttl,
        rate=Rate(rate.per_second, rate.burst) if rate else None,
        order=ShredOrder(**order.model_dump()) if order else None,
        keks=tuple(
            Kek(
                kek.id,
                kek.state.value,
                kek.created,
                kek.root_version,
                kek.last_used,
                kek.retirable,
            )
            for kek in view.keks
        ),
    )


def _root(view: RootView) -> TenantRoot:
    return TenantRoot(view.custody.value, view.name, view.imported)


def _versions(view: VersionsView) -> RootVersions:
    return RootVersions(view.latest, view.minimum, view.created)
