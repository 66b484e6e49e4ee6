"""Range requests (RFC 9110, section 14): which bytes, and the frame around several of them.

A field that does not parse, or names more ranges than `MOST`, is ignored, as the RFC advises, and so is
every range of an empty content: some clients send one with each request. Overlapping ranges are merged,
so that no request costs more than the whole.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import RangeInvalid

MOST = 32
_RANGE = re.compile(r"bytes=(.+)", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]{0,20})-([0-9]{0,20})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, stop) of a content."""

    start: int
    stop: int


def parse(header: str | None, size: int) -> list[Span] | None:
    """Return the spans asked for, None when the whole is to be sent. Raises RangeInvalid."""
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or size == 0:
        return None
    specs = [spec.strip(" \t") for spec in match[1].split(",") if spec.strip(" \t")]
    if not specs or len(specs) > MOST:
        return None
    spans: list[Span] = []
    for spec in specs:
        parsed = _SPEC.fullmatch(spec)
        if parsed is None or parsed[0] == "-":
            return None
        first, last = parsed[1], parsed[2]
        if not first:
            span = Span(max(size - int(last), 0), size)
        else:
            if last and int(last) < int(first):
                return None
            span = Span(int(first), min(int(last) + 1, size) if last else size)
        if span.start < span.stop:
            spans.append(span)
    if not spans:
        raise RangeInvalid(size)
    return _merged(spans)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Merge what overlaps or touches; keep the order asked for when nothing does."""
    ordered = sorted(spans, key=lambda span: span.start)
    merged = [ordered[0]]
    for span in ordered[1:]:
        if span.start <= merged[-1].stop:
            merged[-1] = Span(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return list(spans) if len(merged) == len(spans) else merged


def content_range(span: Span, size: int) -> str:
    """Return the value of a Content-Range field."""
    return f"bytes {span.start}-{span.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Frame:
    """The multipart/byteranges frame around several spans (RFC 9110, section 14.6)."""

    spans: Sequence[Span]
    size: int
    content_type: str
    boundary: str

    @classmethod
    def around(cls, spans: Sequence[Span], size: int, content_type: str) -> "Frame":
        """Return a frame with a boundary that nobody can guess, so that no content holds it."""
        return cls(spans, size, content_type, secrets.token_hex(16))

    def head(self, span: Span) -> bytes:
        """Return what stands before the bytes of a span."""
        return (
            f"\r\n--{self.boundary}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Range: {content_range(span, self.size)}\r\n\r\n"
        ).encode()

    def tail(self) -> bytes:
        """Return what stands behind the last span."""
        return f"\r\n--{self.boundary}--\r\n".encode()

    def length(self) -> int:
        """Return the length of the whole response body."""
        heads = sum(len(self.head(span)) + span.stop - span.start for span in self.spans)
        return heads + len(self.tail())
