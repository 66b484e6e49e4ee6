"""Read part of a body: which ciphertext, and how to open it (docs/format.md, "Ranges").

A plaintext range maps to one extent of ciphertext a segment: the chunks that hold it, with the
header where it begins at the first chunk and with the final chunk where it ends at the end, so
that reading a whole body proves every byte of it. `RangeOpener` releases authenticated plaintext
only, and nothing after a failure.

A chunk alone does not commit to the data key. The attributes do, and bind the salts: open them
with the same key before any plaintext from here is trusted.
"""

import dataclasses
import hmac
from collections.abc import Iterator, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import CannotOpen
from envelope.sizes import CHUNK, COMMITMENT, HEADER, KEY, SEALED_CHUNK

_NONCE = 12
_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """One contiguous piece of the ciphertext of one segment.

    `start` and `stop` are offsets in the ciphertext of the whole body, half-open. Of the
    plaintext that comes out, the first `skip` bytes are dropped and `take` are released.
    """

    segment: int
    start: int
    stop: int
    first_chunk: int
    skip: int
    take: int


def plan(segments: Sequence[Segment], start: int, stop: int) -> list[Extent]:
    """Return the extents that hold the plaintext bytes `start` to `stop`, half-open."""
    if not 0 <= start <= stop <= sum(segment.plaintext_size for segment in segments):
        raise ValueError("a range lies within the body")
    extents = []
    plaintext = ciphertext = 0
    for index, segment in enumerate(segments):
        first = max(start - plaintext, 0)
        last = min(stop - plaintext, segment.plaintext_size)
        if first < last:
            begin, end = _sealed_bounds(segment, first, last)
            chunk, skip = divmod(first, CHUNK)
            extents.append(
                Extent(index, ciphertext + begin, ciphertext + end, chunk, skip, last - first)
            )
        plaintext += segment.plaintext_size
        ciphertext += segment.ciphertext_size
    return extents


def _sealed_bounds(segment: Segment, first: int, last: int) -> tuple[int, int]:
    """Return where in its ciphertext the plaintext `first` to `last` of a segment lies."""
    chunk = first // CHUNK
    begin = HEADER + chunk * SEALED_CHUNK if chunk else 0
    # An end that is the segment's end takes the final chunk along, even an empty one.
    at_end = last == segment.plaintext_size
    final = last // CHUNK if at_end else (last - 1) // CHUNK
    return begin, min(HEADER + (final + 1) * SEALED_CHUNK, segment.ciphertext_size)


class RangeOpener:
    """Opens the chunks of one extent, pushed through in any split."""

    def __init__(self, dek: Buffer, context: Context, segment: Segment, extent: Extent) -> None:
        first = extent.first_chunk * CHUNK + extent.skip
        begin, end = _sealed_bounds(segment, first, first + extent.take)
        if extent.take < 1 or end - begin != extent.stop - extent.start:
            raise ValueError("an extent is one that was planned for its segment")
        info = _LABEL + segment.salt + context.encode(Purpose.BODY)
        derived = HKDFExpand(SHA512(), KEY + _NONCE + COMMITMENT, info).derive(dek)
        self._aead = AESGCM(derived[:KEY])
        self._base = int.from_bytes(derived[KEY : KEY + _NONCE], "big")
        self._header = segment.salt + derived[KEY + _NONCE :] if begin == 0 else b""
        self._chunk = extent.first_chunk
        self._skip = extent.skip
        self._take = extent.take
        self._left = end - begin
        self._partial = bytearray()
        self._failed = False

    def update(self, data: Buffer) -> bytes:
        """Take ciphertext and return the plaintext of the range that is authenticated."""
        try:
            opened = [self._trim(self._open(piece)) for piece in self._pieces(memoryview(data))]
        except (InvalidTag, CannotOpen):
            self._failed = True
            raise CannotOpen from None
        return opened[0] if len(opened) == 1 else b"".join(opened)

    def finalize(self) -> None:
        """Raise if ciphertext is missing."""
        if self._failed or self._left:
            self._failed = True
            raise CannotOpen

    def _pieces(self, view: memoryview) -> Iterator[memoryview | bytearray]:
        """Yield sealed chunks, straight from `view` where they lie in it whole."""
        if self._failed or len(self._partial) + view.nbytes > self._left:
            raise CannotOpen
        while view:
            # What is left of the extent bounds the final chunk, which is short.
            size = len(self._header) or min(SEALED_CHUNK, self._left)
            missing = size - len(self._partial)
            if len(view) < missing:
                self._partial += view
                return
            piece: memoryview | bytearray = view[:missing]
            if self._partial:
                self._partial += piece
                piece, self._partial = self._partial, bytearray()
            view = view[missing:]
            self._left -= size
            if self._header:
                if not hmac.compare_digest(piece, self._header):
                    raise CannotOpen
                self._header = b""
            else:
                yield piece

    def _open(self, piece: memoryview | bytearray) -> bytes:
        nonce = (self._base ^ self._chunk).to_bytes(_NONCE, "big")
        self._chunk += 1
        return self._aead.decrypt(nonce, piece, None)

    def _trim(self, plaintext: bytes) -> bytes:
        if self._skip or len(plaintext) > self._take:
            plaintext = plaintext[self._skip : self._skip + self._take]
            self._skip = 0
        self._take -= len(plaintext)
        return plaintext
