"""The shred ledger: which tenants are dead for good, whatever a restored key store says.

An entry is one tenant's destruction, signed, and chained to the entry before it of the same ledger by
that one's hash. Every instance keeps a ledger of its own, named by chance, and takes in the entries of
others; what is signed by a trusted key counts, whichever way it came. So a chain tells what was taken
out of it, and a lost file comes back from any copy. Entries hold no key and no data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from envelope.signature import Kind, SignatureRefused, Signer, canonical, verify
from keyservice.records import Custody, RootRef, ShredOrder, TenantState, Tier, is_tenant
from keyservice.wire import MAX_ENTRY

ENTRY: Final = Kind("entry", "sealgate shred ledger 1")
ORDER: Final = Kind("order", "sealgate shred order 1")
FORMAT: Final = 1
GENESIS: Final = "0" * 64
_LEDGER = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Destruction:
    """One tenant's destruction: what was destroyed, when it began, who wanted it and who agreed.

    Times are microseconds since the epoch. `approved` is empty where the order's time had run out.
    """

    tenant: str
    tier: Tier
    root: RootRef
    keks: tuple[str, ...]
    at: int
    ordered: int
    due: int
    by: str
    reason: str
    approved: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in a ledger. `text` is the signed line; `hash` names it and chains the next one to it."""

    ledger: str
    index: int
    previous: str
    destruction: Destruction
    text: str = field(repr=False)
    hash: str
    public: str  # the key that signed it, base64


class Ledger(Protocol):
    """The entries that one instance knows. An entry that was added survives a crash."""

    @property
    def public(self) -> str:
        """The public key, in base64, of what this instance signs."""
        ...

    def of(self, tenant: str) -> Entry | None:
        """Return the first entry of a tenant by time, None while it is not dead."""
        ...

    def tenants(self) -> Sequence[str]:
        """Return every dead tenant."""
        ...

    def page(self, after: str, limit: int) -> Sequence[Entry]:
        """Return entries in order of their hash, behind `after`."""
        ...

    async def add(self, destruction: Destruction) -> Entry:
        """Add an entry, signed, durably; the one that is there already if the tenant is dead.

        Raises Unavailable.
        """
        ...

    async def take(self, texts: Sequence[str]) -> Sequence[Entry]:
        """Take entries from elsewhere, durably; return those that were new.

        Raises Invalid for one that no trusted key signed, and then takes none; Unavailable.
        """
        ...

    def sign(self, document: dict[str, Any]) -> dict[str, Any]:
        """Sign a report with the key of this ledger."""
        ...

    def vouch(self, tenant: str, order: ShredOrder) -> ShredOrder:
        """Return the order signed with the key of this ledger."""
        ...

    def vouched(self, tenant: str, order: ShredOrder) -> bool:
        """Say whether a trusted key signed the order, for this tenant."""
        ...

    async def close(self) -> None:
        """Let others open it; idempotent."""
        ...


def new_entry(
    signer: Signer, ledger: str, index: int, previous: str, destruction: Destruction
) -> Entry:
    """Return a signed entry."""
    document = {
        "format": FORMAT,
        "ledger": ledger,
        "index": index,
        "previous": previous,
        "tenant": destruction.tenant,
        "tier": destruction.tier.value,
        "root": {
            "custody": destruction.root.custody.value,
            "name": destruction.root.name,
            "imported": destruction.root.imported,
        },
        "keks": list(destruction.keks),
        "at": destruction.at,
        "ordered": destruction.ordered,
        "due": destruction.due,
        "by": destruction.by,
        "reason": destruction.reason,
        "approved": destruction.approved,
    }
    return _entry(document, canonical(signer.sign(document, ENTRY)).decode(), signer.public)


def vouched_order(signer: Signer, tenant: str, order: ShredOrder) -> ShredOrder:
    """Return the order, signed."""
    signature = signer.sign(_stated(tenant, order), ORDER)["signature"]
    return replace(order, proof=canonical(signature).decode())


def is_vouched(tenant: str, order: ShredOrder, trusted: Iterable[str]) -> bool:
    """Say whether one of these keys signed the order, for this tenant."""
    try:
        signed = {ORDER.field: _stated(tenant, order), "signature": json.loads(order.proof)}
        verify(json.dumps(signed).encode(), list(trusted), ORDER)
    except (ValueError, SignatureRefused):
        return False
    return True


def suspended(ledger: Ledger, tenant: str, order: ShredOrder) -> ShredOrder:
    """Return the order that leaves a suspended tenant where it is undone.

    One that nobody is known to have given does that by itself, and what has begun is not undone.
    """
    if order.was is TenantState.SUSPENDED or order.began or not ledger.vouched(tenant, order):
        return order
    return ledger.vouch(tenant, replace(order, was=TenantState.SUSPENDED))


def _stated(tenant: str, order: ShredOrder) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "ordered": order.ordered,
        "due": order.due,
        "by": order.by,
        "names": list(order.names),
        "reason": order.reason,
        "was": order.was.value,
        "approved": order.approved,
    }


def read_entry(text: str, trusted: Iterable[str]) -> Entry:
    """Return the entry of a signed line. Raises ValueError unless a trusted key signed it."""
    if len(text) > MAX_ENTRY:
        raise ValueError("ledger entry is too large")
    try:
        document = verify(text.encode(), list(trusted), ENTRY)
        signed = json.loads(text)
        if canonical(signed).decode() != text:
            raise ValueError("ledger entry is not in its canonical form")
        return _entry(document, text, signed["signature"]["public_key"])
    except SignatureRefused as error:
        raise ValueError(f"ledger {error}") from None
    except (KeyError, TypeError) as error:
        raise ValueError("ledger entry has a missing or mistyped field") from error


def _entry(document: dict[str, Any], text: str, key: str) -> Entry:
    if document["format"] != FORMAT:
        raise ValueError("ledger entry is of an unknown format")
    index, ledger, previous = document["index"], document["ledger"], document["previous"]
    if not (_LEDGER.fullmatch(ledger) and _HASH.fullmatch(previous) and _whole(index) >= 1):
        raise ValueError("ledger entry has an impossible place")
    if not is_tenant(document["tenant"]):
        raise ValueError("ledger entry names no tenant")
    root = document["root"]
    destruction = Destruction(
        tenant=document["tenant"],
        tier=Tier(document["tier"]),
        root=RootRef(Custody(root["custody"]), _text(root["name"]), root["imported"] is True),
        keks=tuple(_text(kek) for kek in document["keks"]),
        at=_whole(document["at"]),
        ordered=_whole(document["ordered"]),
        due=_whole(document["due"]),
        by=_text(document["by"]),
        reason=_text(document["reason"]),
        approved=_text(document["approved"]),
    )
    digest = hashlib.sha256(ENTRY.message(document)).hexdigest()
    return Entry(ledger, index, previous, destruction, text, digest, key)


def faults(entries: Iterable[Entry]) -> list[str]:
    """Say what is wrong with the chains: entries that are missing, and two in one place."""
    chains: dict[str, dict[int, Entry]] = {}
    found: list[str] = []
    for entry in sorted(entries, key=lambda entry: (entry.ledger, entry.index, entry.hash)):
        places = chains.setdefault(entry.ledger, {})
        if entry.index in places:
            found.append(f"ledger {entry.ledger} has two entries {entry.index}")
        else:
            places[entry.index] = entry
    for ledger, places in chains.items():
        if missing := sorted(set(range(1, max(places) + 1)) - places.keys()):
            found.append(f"ledger {ledger} lacks entries {', '.join(map(str, missing[:10]))}")
        for index, entry in places.items():
            before = places.get(index - 1)
            known = GENESIS if index == 1 else before.hash if before else entry.previous
            if entry.previous != known:
                found.append(f"entry {index} of ledger {ledger} does not follow the one before it")
    return found


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("ledger entry has an impossible number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
