"""The words that the key service and its callers share: values, limits and errors.

`docs/keyservice-api.md` describes the messages. Nothing here does any input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyservice.errors import (
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

MAX_BATCH = 1000
MAX_CONTEXT = 512
MAX_WRAPPED = 512
MAX_REASON = 200
MAX_REQUEST_ID = 64

ERRORS: dict[str, type[KeyServiceError]] = {
    error.code: error
    for error in (
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
class TenantKeys:
    """What the key service knows of a tenant: its tier, and `active`, `suspended` or `shredded`."""

    tier: str
    state: str


__all__ = [
    "ERRORS",
    "MAX_BATCH",
    "MAX_CONTEXT",
    "MAX_REASON",
    "MAX_REQUEST_ID",
    "MAX_WRAPPED",
    "CannotUnwrap",
    "DataKey",
    "Denied",
    "Invalid",
    "KeyServiceError",
    "Shredded",
    "Shredding",
    "Status",
    "Suspended",
    "SuspendedByOwner",
    "TenantKeys",
    "Throttled",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnknownTenant",
    "WrappedKey",
    "WrongState",
]
