"""A generated file of any size that is never held whole, with words in it that can be searched for.

Every 64 KiB begin with the canary; the rest is noise. Any part of it can be had again at any time, so
what comes back can be compared byte by byte.
"""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK = 64 * 1024
PIECE = 16 * BLOCK


@dataclass(frozen=True, slots=True)
class Sample:
    """The file, with a name, a type and a note of its own to look for."""

    size: int
    canary: str = field(default_factory=lambda: f"content-{secrets.token_hex(8)}")
    name: str = field(default_factory=lambda: f"name-{secrets.token_hex(8)}.pdf")
    content_type: str = field(default_factory=lambda: f"application/x-type-{secrets.token_hex(8)}")
    note: str = field(default_factory=lambda: f"note-{secrets.token_hex(8)}")
    _noise: bytes = field(default_factory=lambda: secrets.token_bytes(BLOCK), repr=False)

    @property
    def words(self) -> tuple[bytes, ...]:
        """What must not be found anywhere but in the file itself."""
        return tuple(
            text.encode()
            for text in (
                self.canary,
                self.name.removesuffix(".pdf"),
                self.content_type.removeprefix("application/x-"),
                self.note,
            )
        )

    def _block(self, number: int) -> bytes:
        head = f"{self.canary} block {number:08d}\n".encode()
        return head + self._noise[len(head) :]

    def slice(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        whole = b"".join(self._block(number) for number in range(first, last))
        return whole[start - first * BLOCK : stop - first * BLOCK]

    def pieces(self) -> Iterator[bytes]:
        """Yield the whole, a mebibyte at a time."""
        for start in range(0, self.size, PIECE):
            yield self.slice(start, min(start + PIECE, self.size))

    def digest(self) -> bytes:
        """Return the SHA-256 of the whole."""
        running = hashlib.sha256()
        for piece in self.pieces():
            running.update(piece)
        return running.digest()

    def count(self) -> int:
        """Return how often the canary stands in the whole."""
        return sum(piece.count(self.canary.encode()) for piece in self.pieces())
