"""Data keys for the use cases: what they ask of the key service, and how a batch of one reads.

Guarantees that a key is never held longer than its use, and that an item's refusal is raised as the
key service gave it. The client behind the ports caches and retries; nothing here does. `KeyControl` is for
those who change how keys are kept.
"""

from collections.abc import Sequence
from typing import Protocol

from envelope.context import Context, Purpose
from envelope.envelope import Envelope
from keyservice.wire import (
    DataKey,
    KeyServiceError,
    Rate,
    RootVersions,
    Status,
    TenantKeys,
    TenantRoot,
    WrappedKey,
)


class KeyService(Protocol):
    """The key service as the gateway sees it. Raises KeyServiceErrors; batches hold them by item."""

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        """Create a tenant's first KEK. Idempotent."""

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return a tenant's tier and the state of its keys. Raises UnknownTenant."""

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        """Return if the tenant's keys may be used; raise what a use of them would be refused with.

        What was so is remembered for the tenant's time at most, as an opened key is.
        """

    def remembered(self, tenant: str) -> bool:
        """Tell whether it is remembered that they may be used, so that `usable` would ask nobody."""

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        """Return a fresh data key for every context."""

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Open wrapped data keys."""

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Return each wrapped data key under the tenant's current KEK, without showing it."""

    async def status(self) -> Status:
        """Describe the root behind the key service."""


class KeyControl(Protocol):
    """What administration asks of the key service. Raises KeyServiceErrors; every call may be repeated.

    What changes a tenant answers how it is then. Other instances follow within the tenant's cache time; this
    process sees no state before the change any more.
    """

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return what the key service knows of a tenant. Raises UnknownTenant."""

    async def rotate_kek(
        self, tenant: str, expected: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Replace the KEK `expected` by a new one; where another is current, change nothing."""

    async def retire_kek(
        self, tenant: str, kek: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Destroy a KEK that is not current: what is wrapped under it never opens again."""

    async def rotate_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Rotate the tenant's own root, rewrap its KEKs, retire the older versions."""

    async def rewrap_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Wrap the tenant's KEKs under the newest version of its root."""

    async def root(self, tenant: str, *, request_id: str = "") -> RootVersions:
        """Return which versions the tenant's root has."""

    async def destroy_root(
        self, tenant: str, name: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Destroy an own root that the tenant was moved away from, for good."""

    async def move(
        self, tenant: str, tier: str, root: TenantRoot, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Move the tenant to another tier or root; name a new own root by 8 random hex characters."""

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

    async def suspend(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Let nobody use the tenant's keys."""

    async def resume(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """End a suspension."""

    async def mend(
        self, tenant: str, revision: int, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Bring back the newest genuine record, of that revision, after it was written over."""

    async def shared_root(self, *, request_id: str = "") -> RootVersions:
        """Return which versions the root has that standard tenants share."""

    async def rotate_shared(
        self, expected: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Give it a version after `expected`; where another is the latest, change nothing."""

    async def retire_shared(
        self, minimum: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Put its versions before `minimum` out of use; WrongState while a KEK is under one."""


async def data_key(
    keys: KeyService, context: Context, *, request_id: str, reason: str = "upload"
) -> DataKey:
    """Return a fresh data key for one blob."""
    bound = context.encode(Purpose.DEK)
    (key,) = await keys.data_keys(context.tenant, [bound], reason=reason, request_id=request_id)
    if isinstance(key, KeyServiceError):
        raise key
    return key


def wrapped_key(envelope: Envelope) -> WrappedKey:
    """Return the newest wrap of an envelope's data key with what it is bound to."""
    return WrappedKey(envelope.newest.wrapped, envelope.core.context.encode(Purpose.DEK))


async def unwrap(keys: KeyService, envelope: Envelope, *, reason: str, request_id: str) -> bytes:
    """Return the data key of one envelope."""
    tenant = envelope.core.context.tenant
    wrapped = wrapped_key(envelope)
    (dek,) = await keys.unwrap(tenant, [wrapped], reason=reason, request_id=request_id)
    if isinstance(dek, KeyServiceError):
        raise dek
    return dek
