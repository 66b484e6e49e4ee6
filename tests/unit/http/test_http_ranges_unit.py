"""Range arithmetic against a small model, for any header and any size."""

import re
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RangeInvalid
from gateway.http.ranges import MOST, Frame, Span, content_range, parse

SIZES = st.integers(1, 10_000)
NUMBERS = st.integers(0, 12_000)


@st.composite
def _specs(draw: st.DrawFn) -> tuple[str, range | None]:
    """Give one range as text, and the positions that it means in an endless content (or a suffix)."""
    kind = draw(st.sampled_from(["closed", "open", "suffix"]))
    first = draw(NUMBERS)
    if kind == "closed":
        last = first + draw(NUMBERS)
        return f"{first}-{last}", range(first, last + 1)
    return (f"{first}-", range(first, 10**9)) if kind == "open" else (f"-{first}", None)


def _meant(text: str, positions: range | None, size: int) -> set[int]:
    if positions is None:
        return set(range(max(size - int(text[1:]), 0), size))
    return set(positions[: max(size - positions.start, 0)]) & set(range(size))


@given(st.lists(_specs(), min_size=1, max_size=8), SIZES, st.sampled_from([",", ", ", " ,", ",,"]))
def test_spans_hold_exactly_what_was_asked(
    specs: list[tuple[str, range | None]], size: int, comma: str
) -> None:
    meant = set().union(*(_meant(text, positions, size) for text, positions in specs))
    header = "bytes=" + comma.join(text for text, _ in specs)

    if not meant:
        with pytest.raises(RangeInvalid):
            parse(header, size)
        return
    spans = parse(header, size)

    assert spans is not None
    given_out = [position for span in spans for position in range(span.start, span.stop)]
    assert len(given_out) == len(
        set(given_out)
    )  # nothing twice: no request costs more than the whole
    assert set(given_out) == meant


@given(st.text(), st.integers(0, 100))
def test_any_text_is_a_range_or_ignored_or_refused(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            spans = parse(header, size)
        except RangeInvalid:
            continue
        for span in spans or []:
            assert 0 <= span.start < span.stop <= size


@given(st.from_regex(r"bytes=[0-9, \t-]{0,40}", fullmatch=True), st.integers(0, 50))
def test_what_looks_like_a_range_stays_inside(header: str, size: int) -> None:
    try:
        spans = parse(header, size)
    except RangeInvalid:
        return
    assert all(0 <= span.start < span.stop <= size for span in spans or [])


def test_order_is_kept_when_nothing_overlaps() -> None:
    assert parse("bytes=50-59,0-9", 100) == [Span(50, 60), Span(0, 10)]
    assert parse("bytes=50-59,0-9,9-12", 100) == [Span(0, 13), Span(50, 60)]


def test_more_than_the_most_is_ignored() -> None:
    many = [f"{2 * number}-{2 * number}" for number in range(MOST + 1)]
    assert parse("bytes=" + ",".join(many), 1000) is None
    assert len(parse("bytes=" + ",".join(many[:-1]), 1000) or []) == MOST


SPANS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 100)).map(lambda p: Span(p[0], p[0] + p[1])),
    min_size=2,
    max_size=6,
)


@given(SPANS, st.binary(min_size=700, max_size=700))
def test_a_frame_is_as_long_as_it_says_and_parses(spans: list[Span], content: bytes) -> None:
    frame = Frame.around(spans, len(content), "text/plain; charset=utf-8")
    hexed = content.hex().encode()[: len(content)]  # a parser of mail minds line ends

    body = b"".join(frame.head(span) + hexed[span.start : span.stop] for span in spans)
    body += frame.tail()

    assert len(body) == frame.length()
    head = f'Content-Type: multipart/byteranges; boundary="{frame.boundary}"\r\n\r\n'
    message = message_from_bytes(head.encode() + body)
    assert message.is_multipart()
    assert not message.defects
    parts = message.get_payload()
    assert len(parts) == len(spans)
    for part, span in zip(parts, spans, strict=True):
        assert not isinstance(part, str)
        assert part["Content-Range"] == content_range(span, len(content))
        assert part.get_payload(decode=True) == hexed[span.start : span.stop]


def test_boundaries_are_not_guessed() -> None:
    seen = {Frame.around([], 0, "x/y").boundary for _ in range(100)}
    assert len(seen) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", boundary) for boundary in seen)
