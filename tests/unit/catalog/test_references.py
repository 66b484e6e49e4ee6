"""References: which fit, and where a prefix ends in code point order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.references import beyond, searchable, storable

plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(plain, plain)
def test_prefix_ends_below_what_is_beyond(prefix: str, text: str) -> None:
    end = beyond(prefix)
    in_range = prefix <= text and (end is None or text < end)
    assert in_range == text.startswith(prefix)


@given(plain, plain)
def test_everything_with_the_prefix_is_in_range(prefix: str, rest: str) -> None:
    end = beyond(prefix)
    assert end is None or (prefix + rest < end and searchable(end))


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff\U0010ffff", None),
        ("a\ud7ff", "a\ue000"),
        ("\uffff", "\U00010000"),
    ],
)
def test_edges(prefix: str, end: str | None) -> None:
    assert beyond(prefix) == end


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("a", True),
        ("", False),
        ("a\0", False),
        ("\ud800", False),
        ("x" * 1024, True),
        ("x" * 1025, False),
        ("é" * 512, True),
        ("é" * 513, False),
    ],
)
def test_storable(text: str, fits: bool) -> None:  # noqa: FBT001  a parameter of the table
    assert storable(text) == fits


def test_searchable() -> None:
    assert searchable("")
    assert searchable("x" * 5000)
    assert not searchable("\0")
    assert not searchable("\udfff")
