"""Seal and open one segment, pushed through in any split (docs/format.md, "Segment").

`SegmentSealer` draws a fresh salt, so one data key seals any number of segments and a part that
is sent again is safe. `SegmentOpener` releases authenticated plaintext only, and nothing after
a failure. Neither looks inside the data, and neither says which body a segment belongs to
beyond its context: order and number of segments are the core's to tell.
"""

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import AlreadyFinalized, InvalidTag
from cryptography.utils import Buffer

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import CannotOpen
from envelope.sizes import CHUNK, HEADER, SALT, SEALED_CHUNK, TAG, opened_size, sealed_size

__all__ = [
    "CHUNK",
    "HEADER",
    "SALT",
    "TAG",
    "Buffer",
    "Segment",
    "SegmentOpener",
    "SegmentSealer",
    "opened_size",
    "sealed_size",
]


class SegmentSealer:
    """Seals one segment under `dek`; `digest=False` spares the BLAKE3 of the ciphertext."""

    def __init__(self, dek: Buffer, context: Context, *, digest: bool = True) -> None:
        self._encryptor = Cobblestone256Encryptor(dek, context.encode(Purpose.BODY))
        self._hash = blake3() if digest else None
        self._salt = b""
        self._emitted = 0
        self._segment: Segment | None = None

    @property
    def segment(self) -> Segment:
        """What the core records of this segment, once it is finalized."""
        if self._segment is None:
            raise ValueError("a segment is known once it is finalized")
        return self._segment

    @staticmethod
    def room_for(size: int) -> int:
        """Return the most that one update of `size` bytes can emit, whatever went before."""
        return HEADER + (size + CHUNK - 1) // CHUNK * SEALED_CHUNK

    def update(self, data: Buffer) -> bytes:
        """Take plaintext and return the ciphertext that is complete."""
        sealed = self._encryptor.update(data)
        self._account(sealed)
        return sealed

    def update_into(self, data: Buffer, out: Buffer) -> int:
        """Take plaintext, write the complete ciphertext to `out`, return its size."""
        size = self._encryptor.update_into(data, out)
        self._account(memoryview(out)[:size])
        return size

    def finalize(self) -> bytes:
        """Return the last of the ciphertext; afterwards `segment` is known."""
        # The header leaves with the first update, so there must have been one.
        sealed = self._encryptor.update(b"") + self._encryptor.finalize()
        self._account(sealed)
        digest = b"" if self._hash is None else self._hash.digest()
        self._segment = Segment(opened_size(self._emitted), self._salt, digest)
        return sealed

    def _account(self, sealed: bytes | memoryview) -> None:
        if not self._emitted:
            self._salt = bytes(sealed[:SALT])
        self._emitted += len(sealed)
        if self._hash is not None:
            self._hash.update(sealed)


class SegmentOpener:
    """Opens one whole segment; with `segment` its salt and size must be as recorded."""

    def __init__(self, dek: Buffer, context: Context, segment: Segment | None = None) -> None:
        self._decryptor = Cobblestone256Decryptor(dek, context.encode(Purpose.BODY))
        self._salt = b"" if segment is None else segment.salt
        self._left = None if segment is None else segment.ciphertext_size
        self._failed = False

    def update(self, data: Buffer) -> bytes:
        """Take ciphertext and return the plaintext that is authenticated."""
        try:
            self._check(data)
            return self._decryptor.update(data)
        except (InvalidTag, AlreadyFinalized, CannotOpen):
            self._failed = True
            raise CannotOpen from None

    def finalize(self) -> bytes:
        """Return the last of the plaintext, or raise if the segment is not whole."""
        if self._failed or self._left:
            self._failed = True
            raise CannotOpen
        try:
            return self._decryptor.finalize()
        except (InvalidTag, AlreadyFinalized):
            self._failed = True
            raise CannotOpen from None

    def _check(self, data: Buffer) -> None:
        if self._failed:
            raise CannotOpen
        if self._left is None:
            return
        view = memoryview(data)
        # Every byte is held against the record before the library can release any of it.
        if view.nbytes > self._left:
            raise CannotOpen
        self._left -= view.nbytes
        if self._salt:
            head = view[: len(self._salt)]
            if head != self._salt[: len(head)]:
                raise CannotOpen
            self._salt = self._salt[len(head) :]
