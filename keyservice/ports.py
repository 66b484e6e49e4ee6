"""What the key service needs from the world: a root that wraps KEKs, and a store that keeps them.

Adapters raise only the errors that each method names; whatever their vendor raises is mapped inside
them. They never block the event loop, never log or raise key material, and bound every call in
time. Cancelling a call is always safe. `tests/contracts/keyservice` runs one suite on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from keyservice.records import RootRef, TenantRecord, Versioned

RootKind = Literal["vault", "local"]


@dataclass(frozen=True, slots=True)
class RootStatus:
    """Whether the root answers now; `detail` is one line for an operator, without secrets."""

    healthy: bool
    detail: str


class Root(Protocol):
    """The keys that wrap KEKs and never leave.

    A tenant has root keys of its own, or shares one, from which a key for each tenant is derived
    (context = tenant id). Text wrapped for one tenant or under one root never opens for another. Every
    method may be called any number of times at once.
    """

    @property
    def kind(self) -> RootKind:
        """What the root is, for `status`."""
        ...

    async def create(self, tenant: str, root: RootRef) -> None:
        """Make sure that the tenant's root key exists.

        Idempotent, also for two callers at once: an existing key is left as it is. Nothing to do
        for the shared one. Raises Unavailable.
        """
        ...

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """Wrap a KEK of 32 bytes; the answer is ASCII text that only `unwrap` understands.

        Safe to repeat, with another text each time. Raises UnknownTenant when `create` was not
        called for an own root, Unavailable when the root is sealed, gone or refuses us.
        """
        ...

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """Return the 32 bytes that `wrap` was given for the same tenant and root.

        Idempotent. Raises CannotUnwrap when the text was damaged or is another tenant's,
        UnknownTenant when the tenant's own root key does not exist, Unavailable as `wrap`.
        """
        ...

    async def status(self) -> RootStatus:
        """Say whether the root would answer; never raises, answers within a few seconds."""
        ...

    async def close(self) -> None:
        """Give up connections and threads; idempotent, and nothing may be called afterwards."""
        ...


class KeyStore(Protocol):
    """Tenant records with check-and-set; an acknowledged write survives a crash."""

    async def read(self, tenant: str) -> Versioned:
        """Return the newest record and its version.

        Never returns an older record than one whose write was acknowledged before the call began.
        Raises UnknownTenant, or Unavailable (also when the record is damaged).
        """
        ...

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """Write the record if the store holds `expected_version` of it (0: none); return the new.

        Of several writers with one expectation exactly one succeeds, the others raise Conflict.
        After Unavailable the write may or may not have happened: read again before repeating it.
        """
        ...

    async def status(self) -> RootStatus:
        """Say whether the store would answer; never raises, answers within a few seconds."""
        ...

    async def close(self) -> None:
        """Give up connections and threads; idempotent, and nothing may be called afterwards."""
        ...
