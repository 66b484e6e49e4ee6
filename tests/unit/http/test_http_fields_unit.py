"""Names, metadata and digests: what goes in comes out, and nothing breaks a header."""

import base64
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from envelope.envelope import Attributes
from gateway.errors import Invalid
from gateway.http import disposition, fields
from gateway.http.text import is_plain, size_of

PLAIN = st.text(min_size=1, max_size=100).filter(is_plain)
ANY = st.text(max_size=100)


def _headers(*sent: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(sent))


def _is_field(value: str) -> bool:
    """Tell whether a value is one line of visible ASCII, so that no client reads it otherwise."""
    return value.isascii() and value.isprintable()


@given(PLAIN)
def test_a_name_comes_out_as_it_went_in(name: str) -> None:
    shown = disposition.field(name)

    assert _is_field(shown)
    assert disposition.file_name(shown) == name


@given(PLAIN)
def test_a_name_in_quotes_is_read(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')

    assert disposition.file_name(f'attachment; filename="{quoted}"; size=1') == name


@given(PLAIN)
def test_a_name_adds_no_parameter(name: str) -> None:
    shown = disposition.field(name)

    assert shown.startswith('attachment; filename="')
    plain = shown.removeprefix('attachment; filename="').partition('"')[0]
    assert (
        shown
        == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{shown.rpartition(chr(39))[2]}"
    )
    assert len(plain) == len(name)


@given(ANY)
def test_any_text_is_a_disposition_or_invalid(text: str) -> None:
    for value in (
        text,
        f"attachment; {text}",
        f"attachment; filename*={text}",
        f"x;filename={text}",
    ):
        try:
            name = disposition.file_name(value)
        except Invalid:
            continue
        assert name is None or (name and is_plain(name))


@pytest.mark.parametrize("length", [5_000, 50_000])
def test_a_long_disposition_is_read_in_no_time(length: int) -> None:
    for value in (
        "attachment" + " " * length + "x",
        "attachment;" + "a" * length,
        'attachment; filename="' + "\\" * length,
        "attachment; filename=" + " " * length + ";" * length,
    ):
        try:
            disposition.file_name(value)
        except Invalid:
            continue


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), ANY.filter(is_plain), max_size=8
    )
)
def test_metadata_comes_out_as_it_went_in(user: dict[str, str]) -> None:
    shown = fields.described(Attributes(None, None, "x", user, {}))
    sent = [(name, value) for name, value in shown.items() if name.startswith("X-Sealgate-Meta-")]

    assert all(_is_field(value) for _, value in sent)
    # Leading and trailing blanks would be lost on the wire, so they are escaped.
    assert all(value == value.strip() for _, value in sent)
    assert fields.metadata(_headers(*sent)) == user


@pytest.mark.parametrize("value", [" ", " a", "a ", "a b", "%20", " %20 "])
def test_blanks_at_the_ends_survive_the_wire(value: str) -> None:
    shown = fields.described(Attributes(None, None, "x", {"a": value}, {}))["X-Sealgate-Meta-a"]

    assert shown == shown.strip()
    assert fields.metadata(_headers(("X-Sealgate-Meta-A", shown))) == {"a": value}


@given(ANY)
def test_any_metadata_value_is_plain_or_invalid(text: str) -> None:
    try:
        found = fields.metadata(_headers(("X-Sealgate-Meta-A", text)))
    except Invalid:
        return
    assert is_plain(found["a"])
    assert size_of(found["a"]) <= fields.MAX_VALUE


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_digests_come_out_as_they_went_in(small: bytes, large: bytes) -> None:
    values = {"sha-256": small, "sha-512": large}

    shown = fields.digest_field({**values, "blake3": bytes(32)})

    assert "blake3" not in shown
    assert fields.digests(_headers(("Repr-Digest", shown), ("Content-Digest", shown))) == values


@given(ANY)
def test_any_text_is_a_digest_or_invalid(text: str) -> None:
    try:
        found = fields.digests(_headers(("Repr-Digest", text)))
    except Invalid:
        return
    assert found.keys() <= {"sha-256", "sha-512"}
    for name, value in found.items():
        assert f"{name}=:{base64.b64encode(value).decode()}:" in text


@given(ANY)
def test_any_wish_is_understood_or_ignored(text: str) -> None:
    assert fields.wanted(_headers(("Want-Repr-Digest", text))) <= {"sha-256", "sha-512"}


def test_wishes() -> None:
    wish = _headers(("Want-Repr-Digest", "sha-256=3, md5=9"), ("Want-Content-Digest", "sha-512=0"))

    assert fields.wanted(wish) == {"sha-256"}


@pytest.mark.parametrize("kind", ["text/plain", "a/b;c=d", 'text/html; charset="utf-8"', "a/b; c"])
def test_types(kind: str) -> None:
    assert fields.content_type(_headers(("Content-Type", kind))) == kind


@given(ANY)
def test_any_type_is_one_line_or_invalid(text: str) -> None:
    try:
        kind = fields.content_type(_headers(("Content-Type", text)))
    except Invalid:
        return
    assert kind is not None
    assert _is_field(kind)


def test_a_type_comes_back_unchanged_in_a_percent_free_world() -> None:
    assert unquote(disposition.field("a%41b").rpartition("'")[2]) == "a%41b"


@pytest.mark.parametrize("text", ["\u202f", "👩‍👩‍👧", "\u3000", "\ufeff", "\U000e0041", "\u0378"])
def test_what_unicode_does_not_call_printable_is_still_text(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize("text", ["\x00", "\n", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_what_breaks_a_line_or_is_no_character_is_not(text: str) -> None:
    assert not is_plain(f"a{text}b")
