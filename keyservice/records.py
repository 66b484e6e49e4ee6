"""What the key store keeps for a tenant: its tier, its state, its root, and its wrapped KEK versions.

A record holds no key in the clear. `to_document` and `from_document` are the one mapping to plain
JSON values, shared by every key store; reading is strict, so a damaged record is never half used.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keyservice.errors import UnknownTenant

TENANT = re.compile(r"[0-9a-f]{32}")
WRAPPED = re.compile(r"[a-z]+:v([1-9][0-9]{0,8}):")
"""How every root begins what it wraps: its kind and the version of its key."""

MAX_KEK_ID = 64
MAX_KEKS = 1000
FORMAT = 2
MAX_RATE = 1e9


class Tier(enum.StrEnum):
    """How far a tenant is kept apart: `business` has a root key of its own."""

    STANDARD = "standard"
    BUSINESS = "business"


class TenantState(enum.StrEnum):
    """What may be done for a tenant: everything, nothing for now, nothing until undone, nothing ever."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    SHREDDING = "shredding"  # ordered: answers as if suspended, until it is undone or carried out
    SHREDDED = "shredded"


class Custody(enum.StrEnum):
    """Who has the root key that wraps a tenant's KEKs."""

    SHARED = "shared"  # the one of all standard tenants, derived for each
    OWN = "own"  # the tenant's alone, in our Vault
    HELD = "held"  # the tenant's alone, in a Vault of its own


@dataclass(frozen=True, slots=True)
class RootRef:
    """Which root key wraps a tenant's KEKs.

    `name` tells apart the roots of one tenant: of an own one its generation (8 hex characters, empty for
    the first), of a held one the configured Vault; empty for the shared one. It never names a key by
    itself: adapters build that from the tenant's id. `imported`: the tenant supplies its versions.
    """

    custody: Custody
    name: str = ""
    imported: bool = False


SHARED = RootRef(Custody.SHARED)
OWN = RootRef(Custody.OWN)


@dataclass(frozen=True, slots=True)
class Allowance:
    """A tenant's own rate, beside what the policy says: keys a second, and how many at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class ShredOrder:
    """An order to destroy a tenant's keys: carried out at `due` at the earliest, if nobody undid it.

    Times are microseconds since the epoch, 0 for what has not happened. `names` are all identities that
    the one who ordered proved, of whom `by` is the first; `was` is what the tenant is again when the
    order is undone. `approved` is the second administrator who let it happen at once, empty while nobody
    did. Once it `began` nothing undoes it, and once it `ended` nothing is left to destroy. `proof` is the
    key service's signature of all but these two.
    """

    ordered: int
    due: int
    by: str
    reason: str
    names: tuple[str, ...] = ()
    was: TenantState = TenantState.ACTIVE
    approved: str = ""
    began: int = 0
    ended: int = 0
    proof: str = ""


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

    @property
    def root_version(self) -> int:
        """The version of the root key that wrapped it, 0 when it is destroyed."""
        found = WRAPPED.match(self.wrapped)
        return int(found[1]) if found else 0


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """One tenant; `cache_ttl` in seconds bounds how long an opened KEK outlives a revocation.

    `revision` is the version under which the key store holds it, so that one which was written back from
    the past is seen. `sealed` is the revision at which `seal` was made, which proves all of the rest.
    `left` are own roots that the tenant was moved away from and that still exist.
    """

    tenant: str
    tier: Tier
    state: TenantState
    cache_ttl: float
    keks: tuple[KekVersion, ...]
    root: RootRef
    revision: int = 1
    allowance: Allowance | None = None
    order: ShredOrder | None = None
    sealed: int = 0
    seal: str = ""
    left: tuple[RootRef, ...] = ()

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


_ROOT_NAMES = {
    Custody.SHARED: re.compile(""),
    Custody.OWN: re.compile(r"([0-9a-f]{8})?"),
    Custody.HELD: re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
}


def is_tenant(text: str) -> bool:
    """Say whether the text is a tenant id: 32 lower-case hex characters."""
    return TENANT.fullmatch(text) is not None


def is_root(root: RootRef) -> bool:
    """Say whether a tenant can have a root of that kind and name."""
    return _ROOT_NAMES[root.custody].fullmatch(root.name) is not None


def demand_tenant(tenant: str) -> None:
    """Refuse, as UnknownTenant, an id that could lead to another path."""
    if not is_tenant(tenant):
        raise UnknownTenant("tenant id must be 32 lower-case hex characters")


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
        "root": _root_document(record.root),
        "left": [_root_document(root) for root in record.left],
        "revision": record.revision,
        "allowance": asdict(record.allowance) if record.allowance else None,
        "order": asdict(record.order) if record.order else None,
        "sealed": record.sealed,
        "seal": record.seal,
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
        root=_read_root(document["root"]),
        left=tuple(_read_root(root) for root in document["left"]),
        revision=_count(document["revision"]),
        allowance=_read_allowance(document["allowance"]),
        order=_read_order(document["order"]),
        sealed=_count(document["sealed"]),
        seal=_text(document["seal"]),
    )


def _root_document(root: RootRef) -> dict[str, Any]:
    return {"custody": root.custody.value, "name": root.name, "imported": root.imported}


def _read_root(document: Mapping[str, Any]) -> RootRef:
    name, imported = _text(document["name"]), document["imported"]
    if not isinstance(imported, bool):
        raise TypeError
    root = RootRef(Custody(document["custody"]), name, imported)
    if not is_root(root):
        raise ValueError("tenant record names an impossible root")
    return root


def _read_allowance(document: Mapping[str, Any] | None) -> Allowance | None:
    if document is None:
        return None
    found = Allowance(float(document["per_second"]), float(document["burst"]))
    if not (0 < found.per_second <= MAX_RATE and 1 <= found.burst <= MAX_RATE):
        raise ValueError("tenant record has an impossible rate")
    return found


def _read_order(document: Mapping[str, Any] | None) -> ShredOrder | None:
    if document is None:
        return None
    return ShredOrder(
        ordered=_count(document["ordered"]),
        due=_count(document["due"]),
        by=_text(document["by"]),
        reason=_text(document["reason"]),
        names=tuple(_text(name) for name in document["names"]),
        was=TenantState(document["was"]),
        approved=_text(document["approved"]),
        began=_count(document["began"]),
        ended=_count(document["ended"]),
        proof=_text(document["proof"]),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise ValueError("tenant record has a negative number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _read_kek(document: Mapping[str, Any]) -> KekVersion:
    kek_id, wrapped, created = document["id"], document["wrapped"], document["created"]
    if not (isinstance(kek_id, str) and kek_id.isascii() and 0 < len(kek_id) <= MAX_KEK_ID):
        raise ValueError("tenant record has an impossible KEK id")
    if not (isinstance(wrapped, str) and isinstance(created, int)):
        raise TypeError
    return KekVersion(kek_id, wrapped, created, KekState(document["state"]))
