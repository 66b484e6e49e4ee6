"""Tenant records: what was written is what is read, and nothing else is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyservice.records import (
    OWN,
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
    from_document,
    to_document,
)

HELD = RootRef(Custody.HELD, "their-vault")
KEKS = st.builds(
    KekVersion,
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
    st.text(max_size=50),
    st.integers(0, 2**60),
    st.sampled_from(KekState),
)
RECORDS = st.builds(
    TenantRecord,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.sampled_from(Tier),
    st.sampled_from(TenantState),
    st.floats(0, 1e6),
    st.lists(KEKS, max_size=4, unique_by=lambda kek: kek.id).map(tuple),
    st.sampled_from([SHARED, OWN, RootRef(Custody.OWN, "0a1b2c3d", imported=True), HELD]),
    st.integers(0, 2**60),
    st.none() | st.builds(Allowance, st.floats(0.1, 1e6), st.floats(1, 1e6)),
    st.none()
    | st.builds(
        ShredOrder,
        st.integers(0),
        st.integers(0),
        st.text(),
        st.text(),
        st.lists(st.text(max_size=9), max_size=2).map(tuple),
        st.sampled_from(TenantState),
        st.text(max_size=9),
        st.integers(0),
        st.integers(0),
        st.text(max_size=9),
    ),
    st.integers(0, 2**60),
    st.text(max_size=64),
)
A_RECORD = TenantRecord(
    "a" * 32,
    Tier.STANDARD,
    TenantState.ACTIVE,
    1.0,
    (
        KekVersion("k1", "w1", 1, KekState.RETIRED),
        KekVersion("k2", "w2", 2, KekState.CURRENT),
        KekVersion("k0", "", 0, KekState.DESTROYED),
    ),
    SHARED,
)


@given(RECORDS)
def test_a_record_survives_json(record: TenantRecord) -> None:
    assert from_document(json.loads(json.dumps(to_document(record)))) == record


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"root": {"custody": "own", "name": "../other", "imported": False}},
        {"root": {"custody": "shared", "name": "0a1b2c3d", "imported": False}},
        {"root": {"custody": "own", "name": "", "imported": "no"}},
        {"root": None},
        {"revision": -1},
        {"revision": True},
        {"sealed": "1"},
        {"seal": None},
        {"allowance": {"per_second": 0, "burst": 5}},
        {"order": {"ordered": 1, "due": 2, "by": "x", "reason": 3, "approved": ""}},
        {"tenant": "A" * 32},
        {"tenant": None},
        {"tier": "gold"},
        {"state": "asleep"},
        {"cache_ttl": -1},
        {"cache_ttl": float("nan")},
        {"cache_ttl": None},
        {"keks": None},
        {"keks": [{}]},
        {"keks": ["k"]},
        {"keks": [{"id": "k", "wrapped": "w", "created": "1", "state": "current"}]},
        {"keks": [{"id": "k" * 65, "wrapped": "w", "created": 1, "state": "current"}]},
        {"keks": [{"id": "k", "wrapped": "w", "created": 1, "state": "current"}] * 2},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_document(to_document(A_RECORD) | change)


def test_the_current_kek_is_the_newest_that_may_wrap() -> None:
    assert A_RECORD.current == A_RECORD.keks[1]


@pytest.mark.parametrize(
    ("kek_id", "found"), [("k1", True), ("k2", True), ("k0", False), ("", False)]
)
def test_a_destroyed_kek_is_not_found(*, kek_id: str, found: bool) -> None:
    assert (A_RECORD.kek(kek_id) is not None) is found
