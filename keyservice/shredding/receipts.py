"""Receipts: what was destroyed of a tenant, for whoever asked for it, as a signed report.

A receipt says what one entry of the shred ledger says, and where that is, in words; the same entry makes
the same receipt again. `sealgate report verify` verifies it with the public key of the key service.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from keyservice.records import Custody
from keyservice.shredding.ledger import Entry

KIND: Final = "shred receipt"
FORMAT: Final = 1
_ROOTS: Final = {
    Custody.SHARED: "kept: it is shared, and wraps nothing of this tenant any more",
    Custody.OWN: "destroyed, all of its versions",
    Custody.HELD: "the owner's, in a vault of their own: theirs to destroy",
}


def receipt(entry: Entry) -> dict[str, Any]:
    """Return the receipt of a tenant whose destruction has ended, unsigned."""
    told = entry.destruction
    return {
        "kind": KIND,
        "format": FORMAT,
        "tenant": told.tenant,
        "tier": told.tier.value,
        "keks": list(told.keks),
        "root": {"custody": told.root.custody.value, "name": told.root.name},
        "root_key": _ROOTS[told.root.custody],
        "destroyed": moment(told.at),
        "ordered": moment(told.ordered),
        "ordered_by": told.by,
        "reason": told.reason,
        "due": moment(told.due),
        "approved_by": told.approved,
        "ledger": {"name": entry.ledger, "index": entry.index, "hash": entry.hash},
        "entry": entry.text,
    }


def moment(microseconds: int) -> str:
    """Return a time in words, empty for none."""
    if not microseconds:
        return ""
    return dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).isoformat(timespec="seconds")
