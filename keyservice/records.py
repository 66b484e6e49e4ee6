"""What the key store keeps for a tenant: its tier, its state, and its wrapped KEK versions.

A record holds no key in the clear. `to_document` and `from_document` are the one mapping to plain
JSON values, shared by every key store; reading is strict, so a damaged record is never half used.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TENANT = re.compile(r"[0-9a-f]{32}")
MAX_KEK_ID = 64
MAX_KEKS = 1000
FORMAT = 1


class Tier(enum.StrEnum):
    """How far a tenant is kept apart: `business` has a root key of its own."""

    STANDARD = "standard"
    BUSINESS = "business"


class TenantState(enum.StrEnum):
    """What may be done for a tenant."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    SHREDDED = "shredded"


class KekState(enum.StrEnum):
    """`current` wraps and unwraps, `retired` only unwraps, `destroyed` is remembered by its id."""

    CURRENT = "current"
    RETIRED = "retired"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class KekVersion:
    """One KEK of a tenant: `wrapped` as the root gave it, `created` in microseconds (UTC)."""

    id: str
    wrapped: str
    created: int
    state: KekState


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """One tenant; `cache_ttl` in seconds bounds how long an opened KEK outlives a revocation."""

    tenant: str
    tier: Tier
    state: TenantState
    cache_ttl: float
    keks: tuple[KekVersion, ...]

    @property
    def current(self) -> KekVersion | None:
        """The newest KEK that may wrap, None when there is none."""
        return next((kek for kek in reversed(self.keks) if kek.state is KekState.CURRENT), None)

    def kek(self, kek_id: str) -> KekVersion | None:
        """Return the KEK of that id which may still unwrap, None when there is none."""
        for kek in self.keks:
            if kek.id == kek_id and kek.state is not KekState.DESTROYED:
                return kek
        return None


@dataclass(frozen=True, slots=True)
class Versioned:
    """A record and the version at which the key store holds it (1 or more)."""

    record: TenantRecord
    version: int


def is_tenant(text: str) -> bool:
    """Say whether the text is a tenant id: 32 lower-case hex characters."""
    return TENANT.fullmatch(text) is not None


def to_document(record: TenantRecord) -> dict[str, Any]:
    """Return the record as plain JSON values."""
    return {
        "format": FORMAT,
        "tenant": record.tenant,
        "tier": record.tier.value,
        "state": record.state.value,
        "cache_ttl": record.cache_ttl,
        "keks": [
            {
                "id": kek.id,
                "wrapped": kek.wrapped,
                "created": kek.created,
                "state": kek.state.value,
            }
            for kek in record.keks
        ],
    }


def from_document(document: Mapping[str, Any]) -> TenantRecord:
    """Return the record that `to_document` described; raise ValueError when it is anything else."""
    try:
        return _read(document)
    except (KeyError, TypeError, AttributeError) as error:
        msg = "tenant record has a missing or mistyped field"
        raise ValueError(msg) from error


def _read(document: Mapping[str, Any]) -> TenantRecord:
    if document["format"] != FORMAT:
        raise ValueError("tenant record is of an unknown format")
    if not is_tenant(document["tenant"]):
        raise ValueError("tenant record names no tenant")
    ttl = float(document["cache_ttl"])
    if not (math.isfinite(ttl) and ttl >= 0):
        raise ValueError("tenant record has an impossible cache time")
    keks = tuple(_read_kek(kek) for kek in document["keks"])
    if len(keks) > MAX_KEKS or len({kek.id for kek in keks}) != len(keks):
        raise ValueError("tenant record has too many KEKs or one twice")
    return TenantRecord(
        tenant=document["tenant"],
        tier=Tier(document["tier"]),
        state=TenantState(document["state"]),
        cache_ttl=ttl,
        keks=keks,
    )


def _read_kek(document: Mapping[str, Any]) -> KekVersion:
    kek_id, wrapped, created = document["id"], document["wrapped"], document["created"]
    if not (isinstance(kek_id, str) and kek_id.isascii() and 0 < len(kek_id) <= MAX_KEK_ID):
        raise ValueError("tenant record has an impossible KEK id")
    if not (isinstance(wrapped, str) and isinstance(created, int)):
        raise TypeError
    return KekVersion(kek_id, wrapped, created, KekState(document["state"]))
