"""The ledger of what was shredded: it survives crashes, merges, and believes trusted keys alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from envelope.signature import new_signer
from keyservice.errors import Invalid
from keyservice.records import OWN, ShredOrder, TenantState, Tier
from keyservice.shredding.ledger import (
    GENESIS,
    Destruction,
    Entry,
    faults,
    new_entry,
    read_entry,
    suspended,
)
from keyservice.shredding.ledger_file import LedgerFile

TENANT, OTHER = "a" * 32, "b" * 32


def destruction(tenant: str = TENANT, at: int = 5) -> Destruction:
    return Destruction(
        tenant, Tier.BUSINESS, OWN, (f"{tenant}/1-00000000",), at, 1, 3, "dns:a", "closed", "dns:b"
    )


def opened(folder: Path, *trusted: str, name: str = "one") -> LedgerFile:
    return LedgerFile(folder / f"{name}.ledger", folder / f"{name}.key", trusted)


async def test_entries_survive_and_form_a_chain(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    first = await ledger.add(destruction())
    second = await ledger.add(destruction(OTHER))
    assert (first.index, second.index) == (1, 2)
    assert (first.previous, second.previous) == (GENESIS, first.hash)
    assert await ledger.add(destruction(at=9)) is first, "dead is dead, once"
    await ledger.close()
    again = opened(tmp_path)
    assert again.of(TENANT) == first
    assert set(again.tenants()) == {TENANT, OTHER}
    assert faults(again.page("", 10)) == []
    assert (tmp_path / "one.ledger").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one.key").stat().st_mode & 0o777 == 0o600
    await again.close()


async def test_a_torn_line_is_cut_and_the_next_one_follows(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    first = await ledger.add(destruction())
    await ledger.close()
    path = tmp_path / "one.ledger"
    path.write_bytes(path.read_bytes() + first.text[:40].encode())
    again = opened(tmp_path)
    second = await again.add(destruction(OTHER))
    assert (second.index, second.previous) == (2, first.hash)
    await again.close()
    last = opened(tmp_path)
    assert faults(last.page("", 10)) == []
    await last.close()


@pytest.mark.parametrize("cut", [1, 20])
async def test_a_head_torn_at_the_first_start_is_made_again(tmp_path: Path, cut: int) -> None:
    (tmp_path / "one.ledger").write_bytes(b"sealgate shred ledger 00"[:cut])
    (tmp_path / "one.ledger").chmod(0o600)
    ledger = opened(tmp_path)
    assert (await ledger.add(destruction())).index == 1
    await ledger.close()


async def test_an_altered_line_is_not_opened(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    await ledger.add(destruction())
    await ledger.close()
    path = tmp_path / "one.ledger"
    path.write_bytes(path.read_bytes().replace(TENANT.encode(), OTHER.encode()))
    with pytest.raises(ValueError, match="line 2: ledger the signature does not hold"):
        opened(tmp_path)


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with pytest.raises(BlockingIOError, match="another process's shred ledger"):
        opened(tmp_path)
    await ledger.close()


async def test_a_lost_file_comes_back_from_a_copy(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    first = await ledger.add(destruction())
    copies = [entry.text for entry in ledger.page("", 10)]
    await ledger.close()
    (tmp_path / "one.ledger").unlink()
    again = opened(tmp_path)
    assert again.of(TENANT) is None
    assert [entry.hash for entry in await again.take(copies)] == [first.hash]
    assert await again.take(copies) == []
    own = await again.add(destruction(OTHER))
    assert own.ledger != first.ledger, "a file made anew begins a chain of its own"
    assert faults(again.page("", 10)) == []
    await again.close()


async def test_a_file_from_before_goes_on_where_the_copies_say(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    await ledger.add(destruction())
    before = (tmp_path / "one.ledger").read_bytes()
    second = await ledger.add(destruction(OTHER))
    await ledger.close()
    (tmp_path / "one.ledger").write_bytes(before)
    again = opened(tmp_path)
    await again.take([second.text])
    third = await again.add(destruction("c" * 32))
    assert (third.index, third.previous) == (3, second.hash)
    await again.close()


async def test_only_what_a_trusted_key_signed_is_taken(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path, name="two")
    entry = await one.add(destruction())
    with pytest.raises(Invalid, match="another key signed it"):
        await two.take([entry.text])
    assert two.tenants() == []
    await two.close()
    trusting = opened(tmp_path, one.public, name="two")
    assert [taken.hash for taken in await trusting.take([entry.text])] == [entry.hash]
    await trusting.close()
    await one.close()
    with pytest.raises(ValueError, match="trust the key that signed it"):
        opened(tmp_path, name="two")


async def test_of_a_batch_with_a_forged_entry_none_is_taken(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    signer = new_signer()
    forged = new_entry(signer, "0" * 32, 1, GENESIS, destruction(OTHER)).text
    mine = new_entry(ledger._signer, "0" * 32, 1, GENESIS, destruction()).text
    for text in (forged, mine.replace(TENANT, OTHER), mine + " ", "{}", ""):
        with pytest.raises(Invalid):
            await ledger.take([mine, text])
    assert ledger.tenants() == []
    await ledger.close()


async def test_a_receipt_never_passes_for_an_entry(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    entry = await ledger.add(destruction())
    document = json.loads(entry.text)["entry"]
    report = json.dumps(ledger.sign(document), sort_keys=True, separators=(",", ":"))
    with pytest.raises(ValueError, match="no signed entry"):
        read_entry(report, [ledger.public])
    disguised = report.replace('"report":', '"entry":')
    with pytest.raises(ValueError, match="does not hold"):
        read_entry(disguised, [ledger.public])
    await ledger.close()


def test_faults_name_what_is_missing_and_what_is_there_twice() -> None:
    signer, ledger = new_signer(), "0" * 32
    first = new_entry(signer, ledger, 1, GENESIS, destruction())
    second = new_entry(signer, ledger, 2, first.hash, destruction(OTHER))
    third = new_entry(signer, ledger, 3, second.hash, destruction("c" * 32))
    fork = new_entry(signer, ledger, 2, first.hash, destruction("d" * 32))
    loose = new_entry(signer, ledger, 3, fork.hash, replace(destruction(), at=7))
    assert faults([third, first, second]) == []
    assert faults([third, first]) == [f"ledger {ledger} lacks entries 2"]
    assert f"ledger {ledger} has two entries 2" in faults([first, second, fork, third])
    assert faults([first, second, loose]) == [
        f"entry 3 of ledger {ledger} does not follow the one before it"
    ]


async def test_entries_are_paged_in_order_of_their_hash(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for number in range(5):
        await ledger.add(destruction(f"{number:032x}"))
    found: list[Entry] = []
    after = ""
    while page := ledger.page(after, 2):
        found += page
        after = page[-1].hash
    assert [entry.hash for entry in found] == sorted(entry.hash for entry in found)
    assert len(found) == 5
    await ledger.close()


async def test_an_order_is_vouched_for_anew_only_where_it_was(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "shred.ledger", tmp_path / "shred.key")
    order = ledger.vouch("a" * 32, ShredOrder(1, 2, "email:ada", "closed", approved="email:bob"))
    held = suspended(ledger, "a" * 32, order)
    assert replace(held, was=TenantState.ACTIVE, proof=order.proof) == order
    assert held.was is TenantState.SUSPENDED
    assert ledger.vouched("a" * 32, held)
    for each in (held, replace(order, began=3), replace(order, due=1)):
        assert suspended(ledger, "a" * 32, each) is each
    assert suspended(ledger, "b" * 32, order) is order
    await ledger.close()
