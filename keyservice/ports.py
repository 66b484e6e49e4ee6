"""What the key service needs from the world: a root that wraps KEKs, and a store that keeps them.

Adapters raise only the errors that each method names; whatever their vendor raises is mapped inside
them. They never block the event loop, never log or raise key material, and bound every call in
time. Cancelling a call is always safe. `tests/contracts/keyservice` runs one suite on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from keyservice.errors import Unavailable
from keyservice.records import RootRef, TenantRecord, Versioned

RootKind = Literal["vault", "local"]


@dataclass(frozen=True, slots=True)
class RootStatus:
    """Whether the root answers now; `detail` is one line for an operator, without secrets."""

    healthy: bool
    detail: str


@dataclass(frozen=True, slots=True)
class RootVersions:
    """A root key's newest version, which wraps, and the oldest that still unwraps; from 1.

    `created` is when the newest was made, in microseconds since the epoch; 0 where the root does not tell.
    """

    latest: int
    minimum: int
    created: int = field(default=0, compare=False)


class Unconfigured(Unavailable):
    """A record names a root that the settings of this instance do not; the text may be told to callers."""


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

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """Return the text under the root key's newest version, without showing what is in it.

        Safe to repeat. `KekVersion.root_version` tells under which version a text is. Raises as
        `unwrap`.
        """
        ...

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """Give the root key one more version, under which everything is wrapped from now on; return it.

        Not idempotent: every call adds one, and after Unavailable it may or may not have; look at
        `versions` before repeating it. What was wrapped before still unwraps. Of the shared root the
        tenant may be empty, here and below. Raises UnknownTenant and Unavailable.
        """
        ...

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """Return which versions the root key has. Raises UnknownTenant and Unavailable."""
        ...

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """Let no version older than `minimum` unwrap any more; a later one that rules already stays.

        Idempotent. Raises WrongState when the root has no such version, UnknownTenant, Unavailable.
        """
        ...

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """Destroy a tenant's own root key for good, all of its versions.

        Idempotent: one that is gone is fine. Raises WrongState for a root that is not the tenant's
        alone in our keeping, and Unavailable.
        """
        ...

    async def status(self) -> RootStatus:
        """Say whether the root would answer; never raises, answers within a few seconds."""
        ...

    async def close(self) -> None:
        """Give up connections and threads; idempotent, and nothing may be called afterwards."""
        ...


class KeyImport(Protocol):
    """The way in for root keys that tenants bring; what comes in lies where `Root` uses it.

    Keys come as parcels (`parcel.pack`) that only this root opens. Of a root that was imported as
    `RootRef.imported` the tenant supplies every version and `Root.rotate` is WrongState; of any other
    the versions are ours to make and `bring_version` is WrongState: never both.
    """

    async def wrapping_key(self) -> str:
        """Return the public key, in PEM, for which parcels are packed; it may change. Raises Unavailable."""
        ...

    async def bring(self, tenant: str, root: RootRef, parcel: bytes) -> None:
        """Make the tenant's own root key of that name from the parcel.

        Idempotent: an existing key of that name is left as it is; several callers at once must have
        one parcel, and may leave several versions of its one key. Raises Invalid when the parcel does
        not open to a key of 32 bytes, and Unavailable.
        """
        ...

    async def bring_version(self, tenant: str, root: RootRef, parcel: bytes) -> int:
        """Make the parcel's key the newest version of an own root, and return its number.

        Every call adds one, so that a repeated one adds the same key twice, which harms nothing. Raises
        WrongState where the tenant does not supply the versions, UnknownTenant where there is no such
        root, Invalid as `bring`, and Unavailable.
        """
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

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        """Return the record as it was written at that version; None when it is gone or damaged.

        For finding the last genuine record behind one that was altered. Raises Unavailable.
        """
        ...

    async def forget(self, tenant: str, before: int) -> None:
        """Destroy all versions of the record that are older than `before`, for good.

        Idempotent; the newest version always stays. Raises UnknownTenant and Unavailable.
        """
        ...

    async def tenants(self) -> Sequence[str]:
        """Return every tenant that has a record, in order. Raises Unavailable."""
        ...

    async def status(self) -> RootStatus:
        """Say whether the store would answer; never raises, answers within a few seconds."""
        ...

    async def close(self) -> None:
        """Give up connections and threads; idempotent, and nothing may be called afterwards."""
        ...


class JournalStore(Protocol):
    """Lines of tenants' key journals: numbered from 1, each written once and never again.

    A tenant here is a tenant's id, or `0` 32 times for what is no tenant's own.
    """

    async def head(self, tenant: str) -> int:
        """Return the highest number that is taken, 0 when there is none. Raises Unavailable.

        Never less than one whose `add` was acknowledged before the call began.
        """
        ...

    async def add(self, tenant: str, sequence: int, text: str) -> None:
        """Write a line of ASCII under a number, durably.

        Raises Conflict when the number is taken: of several writers exactly one succeeds. After
        Unavailable it may or may not be there: read it before it is given another number.
        """
        ...

    async def read(self, tenant: str, sequence: int) -> str | None:
        """Return a line; empty text for one that was there and is gone, None where there is none.

        Raises Unavailable.
        """
        ...

    async def close(self) -> None:
        """Give up connections and threads; idempotent, and nothing may be called afterwards."""
        ...
