"""The words that the key service and its callers share: values, limits and errors.

`docs/keyservice-api.md` describes the messages. Nothing here does any input or output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyservice.errors import (
    Altered,
    CannotUnwrap,
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    SuspendedByOwner,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownTenant,
    WrongState,
)
from keyservice.journal.entry import Chain, Fault, JournalPage

MAX_BATCH = 1000
MAX_CONTEXT = 512
MAX_ENTRY = 128 * 1024  # of the shred ledger
MAX_WRAPPED = 512
MAX_REASON = 200
MAX_REQUEST_ID = 64
REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_REQUEST_ID}}}")

ERRORS: dict[str, type[KeyServiceError]] = {
    error.code: error
    for error in (
        Altered,
        CannotUnwrap,
        Denied,
        Invalid,
        KeyServiceError,
        Shredded,
        Shredding,
        Suspended,
        SuspendedByOwner,
        Throttled,
        TooLarge,
        Unauthenticated,
        Unavailable,
        UnknownTenant,
        WrongState,
    )
}
"""Every error that travels, by its stable name."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key of 32 bytes, and the same under the tenant's KEK.

    Unused it may be kept for `fresh` seconds from when it was asked for.
    """

    dek: bytes = field(repr=False)
    wrapped: bytes
    kek: str
    fresh: float = 0.0


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A wrapped data key and the context it was wrapped with (purpose DEK)."""

    wrapped: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """The key service's root: `vault` or `local`, whether it answers, one line for an operator."""

    root: str
    healthy: bool
    detail: str


@dataclass(frozen=True, slots=True)
class TenantRoot:
    """Which root wraps a tenant's KEKs: custody `shared`, `own` or `held`; the name tells several apart."""

    custody: str
    name: str = ""
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Kek:
    """A KEK of a tenant: `current`, `retired` or `destroyed`; `created` in microseconds (UTC).

    `root_version` is the version of the root key that it is wrapped under, 0 when it is destroyed.
    `last_used` in microseconds, too, is what the tenant's journal knows, None where it knows nothing.
    `retirable`, likewise, is from when on one that was replaced may be retired; None for the others, and in
    what changes answer.
    """

    id: str
    state: str
    created: int
    root_version: int
    last_used: int | None = None
    retirable: int | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """A tenant's own rate: keys a second, and how many at once after a rest."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class ShredOrder:
    """An order to destroy a tenant's keys; times in microseconds since the epoch, 0 for not yet."""

    ordered: int
    due: int
    by: str
    reason: str
    approved: str = ""
    began: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """What the key service knows of a tenant.

    `state` is `active`, `suspended`, `shredding` or `shredded`; `cache_ttl`, in seconds, bounds how long
    a change takes to hold everywhere; `revision` grows with every change. `left` are own roots that the
    tenant was moved away from and that still exist.
    """

    tier: str
    state: str
    root: TenantRoot = TenantRoot("shared")
    left: tuple[TenantRoot, ...] = ()
    revision: int = 0
    cache_ttl: float = 0.0
    rate: Rate | None = None
    order: ShredOrder | None = None
    keks: tuple[Kek, ...] = ()

    @property
    def current(self) -> Kek | None:
        """The KEK that wraps now."""
        return next((kek for kek in reversed(self.keks) if kek.state == "current"), None)


@dataclass(frozen=True, slots=True)
class RootVersions:
    """A root key's newest version, and the oldest that still unwraps.

    `created` is when the newest was made, in microseconds since the epoch; 0 where that is not known.
    """

    latest: int
    minimum: int
    created: int = 0


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An entry of the shred ledger: which tenant is dead, and the signed line that says so."""

    hash: str
    tenant: str
    ledger: str
    index: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Entries of the shred ledger in order of hash, and the public key that this instance signs with."""

    public: str
    entries: tuple[LedgerEntry, ...]


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """What was destroyed of a tenant, as a signed report: `sealgate report verify` verifies it."""

    signed: Mapping[str, Any]

    @property
    def receipt(self) -> Mapping[str, Any]:
        """What it states."""
        stated: Mapping[str, Any] = self.signed["report"]
        return stated


__all__ = [
    "ERRORS",
    "MAX_BATCH",
    "MAX_CONTEXT",
    "MAX_ENTRY",
    "MAX_REASON",
    "MAX_REQUEST_ID",
    "MAX_WRAPPED",
    "REQUEST_ID",
    "Altered",
    "CannotUnwrap",
    "Chain",
    "DataKey",
    "Denied",
    "Fault",
    "Invalid",
    "JournalPage",
    "Kek",
    "KeyServiceError",
    "LedgerEntry",
    "LedgerPage",
    "Rate",
    "RootVersions",
    "ShredOrder",
    "Shredded",
    "Shredding",
    "SignedReceipt",
    "Status",
    "Suspended",
    "SuspendedByOwner",
    "TenantKeys",
    "TenantRoot",
    "Throttled",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnknownTenant",
    "WrappedKey",
    "WrongState",
]
