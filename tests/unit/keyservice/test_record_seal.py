"""The seal: whatever is altered in a record, it no longer proves it."""

import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyservice.keys import seal
from keyservice.records import (
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

TENANT = "0123456789abcdef" * 2
KEK = bytes(range(32))
ORDER = ShredOrder(1, 2, "email:a@b", "leaves", ("email:a@b",), TenantState.ACTIVE)
RECORD = TenantRecord(
    tenant=TENANT,
    tier=Tier.BUSINESS,
    state=TenantState.ACTIVE,
    cache_ttl=12.5,
    keks=(
        KekVersion(f"{TENANT}/1-aa", "", 1, KekState.DESTROYED),
        KekVersion(f"{TENANT}/2-bb", "vault:v1:AAAA", 2, KekState.RETIRED),
        KekVersion(f"{TENANT}/3-cc", "vault:v2:BBBB", 3, KekState.CURRENT),
    ),
    root=RootRef(Custody.OWN, "0a1b2c3d"),
    revision=7,
    allowance=Allowance(5.0, 10.0),
    left=(RootRef(Custody.OWN),),
)
SEALED = seal.seal(KEK, RECORD)
OTHERS: dict[str, Any] = {
    "tier": "standard",
    "state": "suspended",
    "custody": "held",
    "seal": "0" * 64,
}


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value."""
    if isinstance(document, dict | list):
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in pairs:
            yield from leaves(value, (*path, key))
    else:
        yield path


def other(path: tuple[Any, ...], value: Any) -> Any:
    """Return another value that the field could have."""
    if path[-1] == "state" and len(path) > 1:
        return "retired" if value != "retired" else "current"
    if path[-1] in OTHERS:
        return OTHERS[path[-1]]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}0"


def altered(path: tuple[Any, ...]) -> dict[str, Any]:
    """Return the sealed document with that one value changed."""
    document = to_document(SEALED)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other(path, place[path[-1]])
    return document


def readable(document: dict[str, Any]) -> TenantRecord | None:
    try:
        return from_document(document)
    except ValueError:
        return None  # refused before any seal is looked at


ALL = [path for path in leaves(to_document(SEALED)) if path != ("format",)]


def test_a_record_proves_itself_also_after_a_journey() -> None:
    assert SEALED.sealed == SEALED.revision
    assert seal.proves(KEK, SEALED)
    assert seal.proves(KEK, from_document(to_document(SEALED)))


@pytest.mark.parametrize("path", ALL, ids=lambda path: ".".join(map(str, path)))
def test_no_value_can_be_altered(path: tuple[Any, ...]) -> None:
    record = readable(altered(path))
    if record is not None:
        assert record != SEALED
        assert not seal.proves(KEK, record)


@given(st.permutations(SEALED.keks))
def test_keks_cannot_be_put_in_another_order(keks: list[KekVersion]) -> None:
    record = dataclasses.replace(SEALED, keks=tuple(keks))
    assert seal.proves(KEK, record) is (record.keks == SEALED.keks)


@given(st.lists(st.sampled_from(SEALED.keks), max_size=5, unique=True))
def test_keks_cannot_be_taken_out(keks: list[KekVersion]) -> None:
    record = dataclasses.replace(SEALED, keks=tuple(keks))
    assert seal.proves(KEK, record) is (record.keks == SEALED.keks)


@given(st.integers(1, 100))
def test_it_proves_one_revision_only(revision: int) -> None:
    for sealed in (SEALED.sealed, revision):
        record = dataclasses.replace(SEALED, revision=revision, sealed=sealed)
        assert seal.proves(KEK, record) is (revision == SEALED.revision)


def test_another_key_proves_nothing() -> None:
    assert not seal.proves(secrets.token_bytes(32), SEALED)
    assert not seal.proves(KEK, dataclasses.replace(SEALED, seal=""))


def test_a_state_taken_away_without_a_seal_is_still_the_same_record() -> None:
    suspended = dataclasses.replace(SEALED, state=TenantState.SUSPENDED, revision=8)
    ordered = dataclasses.replace(suspended, state=TenantState.SHREDDING, order=ORDER, revision=9)
    for record in (SEALED, suspended, ordered):
        assert seal.proves_keys(KEK, record)
        stolen = dataclasses.replace(record, keks=record.keks[1:])
        assert not seal.proves_keys(KEK, stolen)
    assert not seal.proves(KEK, suspended)
    assert not seal.proves_keys(KEK, dataclasses.replace(SEALED, revision=6))


def test_a_sealed_suspension_is_not_ended_by_its_state_alone() -> None:
    suspended = seal.seal(KEK, dataclasses.replace(RECORD, state=TenantState.SUSPENDED))
    assert not seal.proves(KEK, dataclasses.replace(suspended, state=TenantState.ACTIVE))


def test_the_code_without_an_order_passes_for_no_other_seal() -> None:
    ordered = dataclasses.replace(RECORD, state=TenantState.SHREDDING, order=ORDER)
    sealed = seal.seal(KEK, ordered)
    approved = dataclasses.replace(sealed, order=dataclasses.replace(ORDER, approved="email:b"))
    assert not seal.proves(KEK, approved)
    assert seal.proves_keys(KEK, approved)
    assert not seal.proves_keys(KEK, dataclasses.replace(approved, cache_ttl=1.0))
    for state in (TenantState.ACTIVE, TenantState.SUSPENDED):
        forged = dataclasses.replace(sealed, state=state, order=None)
        for text in (sealed.seal, sealed.seal[:64], sealed.seal[64:]):
            assert not seal.proves(KEK, dataclasses.replace(forged, seal=text))
            assert not seal.proves_keys(KEK, dataclasses.replace(forged, seal=text))
