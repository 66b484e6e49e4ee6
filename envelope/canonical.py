"""Deterministic CBOR, of which the format uses five types (docs/format.md, "CBOR").

`encode` writes the one canonical form. `Reader` reads a known shape: each call names the type
and the bound it expects, a length is checked against the bytes that are there before anything
is copied, and no tag, float or indefinite length is known at all. It does not check that heads
are as short as possible or that map keys are sorted: callers encode what they read and compare.
"""

from typing import Final

import cbor2

from envelope.errors import Malformed, TooLarge

_UINT, _BYTES, _TEXT, _ARRAY, _MAP = 0, 2, 3, 4, 5
_NULL: Final = b"\xf6"
# 24 to 27: the value follows in 1, 2, 4 or 8 bytes; below it stands there itself.
_SHORTEST_HEAD, _LONGEST_HEAD = 24, 27
_ANY: Final = (1 << 64) - 1  # that a head can say


def encode(value: object) -> bytes:
    """Return the deterministic encoding (RFC 8949, section 4.2.1) of `value`."""
    try:
        return cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError:
        # A lone surrogate; the text itself stays out of the error.
        raise Malformed("a text is not valid Unicode") from None


class Reader:
    """Reads one record from the front; every refusal is `Malformed` or `TooLarge`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)

    def expect(self, expected: bytes) -> None:
        """Pass over exactly these bytes, the encoding of what must stand here."""
        if not self._data.startswith(expected, self._position):
            raise Malformed("a record is not of a known format version")
        self._position += len(expected)

    def array(self, length: int) -> None:
        """Enter an array of exactly `length` items."""
        if self._head(_ARRAY, _ANY) != length:
            raise Malformed("an array does not have the length of its kind")

    def array_of(self, most: int) -> int:
        """Enter an array of at most `most` items and return how many there are."""
        return self._head(_ARRAY, most)

    def map_of(self, most: int) -> int:
        """Enter a map of at most `most` pairs and return how many there are."""
        return self._head(_MAP, most)

    def uint(self, most: int) -> int:
        """Return an unsigned integer of at most `most`."""
        return self._head(_UINT, most)

    def data(self, most: int) -> bytes:
        """Return a byte string of at most `most` bytes."""
        return self._take(self._head(_BYTES, most))

    def text(self, most: int) -> str:
        """Return a text string of at most `most` bytes of UTF-8."""
        try:
            return self._take(self._head(_TEXT, most)).decode()
        except UnicodeDecodeError:
            raise Malformed("a text is not valid UTF-8") from None

    def null(self) -> bool:
        """Pass over a null if one comes next, and tell whether it did."""
        found = self._data[self._position : self._position + 1] == _NULL
        self._position += found
        return found

    def end(self) -> None:
        """Refuse anything after the record."""
        if self._position != self._end:
            raise Malformed("a record is followed by more bytes")

    def _head(self, major: int, most: int) -> int:
        data, at = self._data, self._position
        if at >= self._end:
            raise Malformed("a record ends before its last field")
        first = data[at]
        self._position = at = at + 1
        value = first & 0x1F
        if first >> 5 != major or value > _LONGEST_HEAD:
            raise Malformed("a field is not of the type of its place")
        if value == _SHORTEST_HEAD and at < self._end:  # as most are that do not stand there
            self._position = at + 1
            value = data[at]
        elif value >= _SHORTEST_HEAD:
            value = int.from_bytes(self._take(1 << (value - _SHORTEST_HEAD)), "big")
        if value > most:
            raise TooLarge("a field is larger than the format allows")
        return value

    def _take(self, size: int) -> bytes:
        start = self._position
        end = start + size
        if end > self._end:
            raise Malformed("a record ends before its last field")
        self._position = end
        return self._data[start:end]
