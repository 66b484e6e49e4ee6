"""A chain of entries shows what was altered; a change is told by what differs."""

import dataclasses
import json
from typing import Any

import pytest

from envelope.signature import SignatureRefused, new_signer
from keyservice.journal.differences import changes
from keyservice.journal.entry import Chain, Fault, from_text, to_text
from keyservice.journal.journal import Journal
from keyservice.records import (
    SHARED,
    Allowance,
    Custody,
    KekState,
    KekVersion,
    RootRef,
    ShredOrder,
    TenantRecord,
    TenantState,
    Tier,
)
from tests.unit.keyservice.fakes import (
    FakeJournal,
)
from tests.unit.keyservice.journal_bench import CALL, A, B, Bench, faults


@pytest.fixture
async def written() -> FakeJournal:
    """Give a journal of six entries."""
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    for ttl in (1.0, 2.0):
        await bench.change(bench.kept.held[A].record, cache_ttl=ttl)
    return bench.lines


async def test_an_altered_entry_is_seen(written: FakeJournal) -> None:
    entry = json.loads(written.lines[A, 3])
    written.lines[A, 3] = to_text(entry | {"caller": "dns:somebody-else"})
    assert [fault.sequence for fault in faults(written)] == [4]


async def test_a_removed_entry_is_seen(written: FakeJournal) -> None:
    del written.lines[A, 3]
    assert faults(written)[0] == Fault(3, "removed")


async def test_entries_that_changed_places_are_seen(written: FakeJournal) -> None:
    lines = written.lines
    lines[A, 2], lines[A, 3] = lines[A, 3], lines[A, 2]
    assert {fault.sequence for fault in faults(written)} >= {2, 3}


async def test_another_tenants_entry_and_noise_are_seen(written: FakeJournal) -> None:
    entry = json.loads(written.lines[A, 2])
    written.lines[A, 2] = to_text(entry | {"tenant": B})
    written.lines[A, 4] = "noise"
    assert {fault.sequence for fault in faults(written)} == {2, 3, 4, 5}


async def test_writing_goes_on_after_tampering(written: FakeJournal) -> None:
    written.lines[A, 6] = "noise"
    journal = Journal(written, instance="later")
    await journal.append(journal.draft(A, "uses", {}))
    assert [fault.sequence for fault in faults(written)] == [6]


async def test_whoever_has_the_key_sees_a_line_that_somebody_else_made() -> None:
    signer, thief = new_signer(), new_signer()
    lines = FakeJournal()
    journal = Journal(lines, instance="here", signer=signer)
    for number in range(3):
        await journal.append(journal.draft(A, "uses", {"n": number, "ttl": 1.5}))

    def verified(*keys: str) -> list[int]:
        chain = Chain(A, keys)
        faults = [chain.take(lines.lines[A, number]) for number in (1, 2, 3)]
        return [fault.sequence for fault in faults if fault is not None]

    assert verified() == verified(signer.public) == verified(thief.public, signer.public) == []
    assert verified(thief.public) == [1, 2, 3]
    last = json.loads(lines.lines[A, 3])
    kept = {name: last[name] for name in last if name not in {"signature", "public_key", "format"}}
    forged = [
        to_text(kept | {"n": 7}),
        to_text(kept | {"n": 7}, thief),
        lines.lines[A, 3].replace('"n":2', '"n":7'),
        to_text(kept, thief).replace(thief.public, signer.public),
        lines.lines[A, 3].replace('"signature":"', '"signature":"A'),
    ]
    for line in forged:
        lines.lines[A, 3] = line
        assert verified() == []  # nothing follows it that would show it
        assert verified(signer.public) == [3]
    with pytest.raises(SignatureRefused):
        Chain(A, ["no key"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"format": 1}', '{"format": 1, "sequence": true}']
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"journal entry|Expecting"):
        from_text(text)


def kek(name: str, state: KekState = KekState.CURRENT, wrapped: str = "w") -> KekVersion:
    return KekVersion(name, wrapped, 1, state)


RECORD = TenantRecord(A, Tier.STANDARD, TenantState.ACTIVE, 60.0, (kek("1"),), SHARED)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"state": TenantState.SUSPENDED}, [{"what": "suspended"}]),
        ({"state": TenantState.SHREDDED}, [{"what": "shredded"}]),
        ({"keks": (kek("1", wrapped="x"),)}, [{"what": "kek-rewrapped", "kek": "1"}]),
        (
            {"keks": (kek("1", KekState.RETIRED), kek("2"))},
            [{"what": "kek-replaced", "kek": "1"}, {"what": "kek-created", "kek": "2"}],
        ),
        ({"keks": (kek("1", KekState.DESTROYED),)}, [{"what": "kek-destroyed", "kek": "1"}]),
        ({"keks": ()}, [{"what": "kek-forgotten", "kek": "1"}]),
        (
            {"allowance": Allowance(1.0, 2.0)},
            [
                {
                    "what": "settings",
                    "from": {"cache_ttl": 60.0, "rate": None},
                    "to": {"cache_ttl": 60.0, "rate": {"per_second": 1.0, "burst": 2.0}},
                }
            ],
        ),
        (
            {"tier": Tier.BUSINESS, "root": RootRef(Custody.OWN, "0123abcd")},
            [
                {
                    "what": "moved",
                    "from": {"tier": "standard", "root": "shared"},
                    "to": {"tier": "business", "root": "own/0123abcd"},
                }
            ],
        ),
        ({}, []),
    ],
)
def test_a_change_is_told_by_what_differs(
    fields: dict[str, Any], told: list[dict[str, Any]]
) -> None:
    after = dataclasses.replace(RECORD, **fields)
    assert changes(RECORD, after) == told
    assert "wrapped" not in json.dumps(changes(None, after))


def test_the_way_to_the_end_is_told() -> None:
    order = ShredOrder(ordered=1, due=9, by="dns:a", reason="because")
    approved = dataclasses.replace(order, approved="dns:b")
    begun = dataclasses.replace(approved, began=5)
    ended = dataclasses.replace(begun, ended=6)
    steps = [
        dataclasses.replace(RECORD, state=state, order=each)
        for state, each in (
            (TenantState.SHREDDING, order),
            (TenantState.SHREDDING, approved),
            (TenantState.SHREDDED, begun),
            (TenantState.SHREDDED, ended),
        )
    ]
    told = [changes(before, after) for before, after in zip([RECORD, *steps], steps, strict=False)]
    assert [[fact["what"] for fact in facts] for facts in told] == [
        ["shred-ordered", "shred-due"],
        ["shred-approved"],
        ["shredded", "shred-begun"],
        ["shred-ended"],
    ]
    assert [fact["what"] for fact in changes(None, steps[2])] == [
        "created",
        "shredded",
        "kek-created",
    ]


def test_the_way_back_is_told() -> None:
    for state, told in (
        (TenantState.SUSPENDED, "resumed"),
        (TenantState.SHREDDING, "shred-undone"),
    ):
        before = dataclasses.replace(RECORD, state=state)
        assert changes(before, RECORD) == [{"what": told}]
