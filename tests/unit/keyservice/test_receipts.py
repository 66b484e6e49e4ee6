"""Receipts say what the ledger says, and are verified as reports are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envelope.signature import SignatureRefused, new_signer, verify
from keyservice.records import OWN, SHARED, RootRef, Tier
from keyservice.shredding.ledger import Destruction
from keyservice.shredding.receipts import receipt
from tests.unit.keyservice.shred_site import ledger_in

TENANT = "c" * 32


@pytest.mark.parametrize(
    ("root", "says"), [(OWN, "destroyed, all of its versions"), (SHARED, "kept: it is shared")]
)
async def test_a_receipt_is_verified_with_the_ledgers_key(
    tmp_path: Path, root: RootRef, says: str
) -> None:
    ledger = ledger_in(tmp_path)
    told = Destruction(
        TENANT, Tier.BUSINESS, root, ("k1", "k2"), 3_000_000, 1_000_000, 2_000_000, "dns:a", "end"
    )
    entry = await ledger.add(told)
    text = json.dumps(ledger.sign(receipt(entry))).encode()
    shown = verify(text, ledger.public)
    assert shown["keks"] == ["k1", "k2"]
    assert shown["ledger"] == {"name": entry.ledger, "index": 1, "hash": entry.hash}
    assert shown["root_key"].startswith(says)
    assert shown["destroyed"] == "1970-01-01T00:00:03+00:00"
    assert (shown["ordered_by"], shown["approved_by"]) == ("dns:a", "")
    assert receipt(entry) == shown, "the same entry makes the same receipt"
    with pytest.raises(SignatureRefused, match="another key signed it"):
        verify(text, new_signer().public)
    with pytest.raises(SignatureRefused, match="it was altered"):
        verify(text.replace(b'"k2"', b'"k3"'), ledger.public)
    await ledger.close()
