"""How a tenant's record differs from the one before it, as the key journal tells it: ids, no secrets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from keyservice.records import KekState, RootRef, TenantRecord, TenantState

Facts = list[dict[str, Any]]

_STATES = {
    TenantState.ACTIVE: "resumed",
    TenantState.SUSPENDED: "suspended",
    TenantState.SHREDDING: "shred-ordered",
    TenantState.SHREDDED: "shredded",
}


def changes(before: TenantRecord | None, after: TenantRecord) -> Facts:
    """Tell how a record differs from the one before it, with ids and without anything secret."""
    if before is None:
        told: Facts = [{"what": "created", "tier": after.tier.value, "root": root_text(after.root)}]
        if after.state is not TenantState.ACTIVE:  # of a key store that was restored without it
            told.append({"what": _STATES[after.state]})
        return told + [{"what": "kek-created", "kek": kek.id} for kek in after.keks]
    facts = _state(before, after)
    if before.tier is not after.tier or before.root != after.root:
        facts.append(
            {
                "what": "moved",
                "from": {"tier": before.tier.value, "root": root_text(before.root)},
                "to": {"tier": after.tier.value, "root": root_text(after.root)},
            }
        )
    if (before.cache_ttl, before.allowance) != (after.cache_ttl, after.allowance):
        facts.append({"what": "settings", "from": _settings(before), "to": _settings(after)})
    return facts + _keks(before, after)


def _keks(before: TenantRecord, after: TenantRecord) -> Facts:
    facts: Facts = []
    known = {kek.id: kek for kek in before.keks}
    for kek in after.keks:
        old = known.pop(kek.id, None)
        if old is None:
            facts.append({"what": "kek-created", "kek": kek.id})
        elif old.state is not kek.state:
            what = {
                KekState.CURRENT: "kek-current",
                KekState.RETIRED: "kek-replaced",
                KekState.DESTROYED: "kek-destroyed",
            }[kek.state]
            facts.append({"what": what, "kek": kek.id})
        elif old.wrapped != kek.wrapped:
            facts.append({"what": "kek-rewrapped", "kek": kek.id})
    return facts + [{"what": "kek-forgotten", "kek": kek} for kek in known]


def _state(before: TenantRecord, after: TenantRecord) -> Facts:
    facts: Facts = []
    if before.state is not after.state:
        undone = before.state is TenantState.SHREDDING and after.state is not TenantState.SHREDDED
        facts.append({"what": "shred-undone" if undone else _STATES[after.state]})
    old, new = before.order, after.order
    if new is not None and (old is None or old.due != new.due):
        facts.append({"what": "shred-due", "due": new.due})
    if old is not None and new is not None and old.was is not new.was:
        facts.append({"what": _STATES[new.was]})
    if new is not None and new.approved and (old is None or old.approved != new.approved):
        facts.append({"what": "shred-approved", "by": new.approved})
    if new is not None and new.began and not (old and old.began):
        facts.append({"what": "shred-begun"})
    if new is not None and new.ended and not (old and old.ended):
        facts.append({"what": "shred-ended"})
    return facts


def _settings(record: TenantRecord) -> dict[str, object]:
    rate = asdict(record.allowance) if record.allowance else None
    return {"cache_ttl": record.cache_ttl, "rate": rate}


def root_text(root: RootRef) -> str:
    """Return how the journal names a root."""
    return "/".join([root.custody.value, *([root.name] if root.name else [])])
