"""Data keys for the use cases: what they ask of the key service, and how a batch of one reads.

Guarantees that a key is never held longer than its use, and that an item's refusal is raised as the
key service gave it. The client behind the port caches and retries; nothing here does.
"""

from collections.abc import Sequence
from typing import Protocol

from envelope.context import Context, Purpose
from envelope.envelope import Envelope
from keyservice.wire import DataKey, KeyServiceError, Status, TenantKeys, WrappedKey


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
        """Return wrapped data keys under the current KEK; one that is there already as it came."""

    async def status(self) -> Status:
        """Describe the root behind the key service."""


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
