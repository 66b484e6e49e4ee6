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
import io
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import CannotOpen
from envelope.sizes import CHUNK, COMMITMENT, HEADER, KEY, SEALED_CHUNK, TAG

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
        if len(dek) != KEY:
            raise ValueError("a data key is 32 bytes")
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

    @staticmethod
    def room_for(size: int) -> int:
        """Return the most that one update of `size` bytes can release, whatever went before."""
        return size + CHUNK

    def update(self, data: Buffer) -> bytes:
        """Take ciphertext and return the plaintext of the range that is authenticated."""
        begun, whole = self._split(memoryview(data))
        # A BytesIO hands out its bytes as they are, so chunks open into their last place, and
        # a slice of all bytes is those bytes: only a trimmed end is copied.
        opened = io.BytesIO(bytes(_opened_size(begun) + _opened_size(whole)))
        with opened.getbuffer() as room:
            start, stop = self._open(begun, whole, room)
        return opened.getvalue()[start:stop]

    def update_into(self, data: Buffer, out: Buffer) -> int:
        """Take ciphertext, write the plaintext that is authenticated to `out`, return its size."""
        view, room = memoryview(data), memoryview(out)
        if len(room) < self.room_for(len(view)):
            raise ValueError("a buffer has the room that room_for demands")
        begun, whole = self._split(view)
        start, stop = self._open(begun, whole, room)
        if start:
            room[: stop - start] = bytes(room[start:stop])
        return stop - start

    def finalize(self) -> bytes:
        """Raise if ciphertext is missing; return no bytes, since `update` holds none back."""
        if self._failed or self._left:
            raise self._fail()
        return b""

    def _fail(self) -> CannotOpen:
        self._failed = True
        return CannotOpen()

    def _split(self, view: memoryview) -> tuple[bytearray, memoryview]:
        """Return the chunk that an earlier update began, if now complete, and all whole ones.

        What follows them is kept for the next update.
        """
        if self._failed or len(self._partial) + len(view) > self._left:
            raise self._fail()
        if self._header:
            view = self._pass_header(view)
        begun = bytearray()
        if self._partial and view:
            size = min(SEALED_CHUNK, self._left)
            missing = size - len(self._partial)
            self._partial += view[:missing]
            view = view[missing:]
            if len(self._partial) == size:
                begun, self._partial = self._partial, begun
                self._left -= size
        # Chunks are whole, except that the last of the extent is short where the segment ends.
        whole = len(view) if len(view) == self._left else len(view) // SEALED_CHUNK * SEALED_CHUNK
        self._left -= whole
        if whole < len(view):
            self._partial += view[whole:]
        return begun, view[:whole]

    def _pass_header(self, view: memoryview) -> memoryview:
        missing = HEADER - len(self._partial)
        self._partial += view[:missing]
        if len(self._partial) == HEADER:
            if not hmac.compare_digest(self._partial, self._header):
                raise self._fail()
            self._header = b""
            self._partial = bytearray()
            self._left -= HEADER
        return view[missing:]

    def _open(self, begun: bytearray, whole: memoryview, room: memoryview) -> tuple[int, int]:
        """Open into `room` and return from where to where the range takes it."""
        decrypt_into, base, chunk, end = self._aead.decrypt_into, self._base, self._chunk, 0
        try:
            if begun:
                nonce = (base ^ chunk).to_bytes(_NONCE, "big")
                end = decrypt_into(nonce, begun, None, room[: len(begun) - TAG])
                chunk += 1
            for at in range(0, len(whole), SEALED_CHUNK):
                piece = whole[at : at + SEALED_CHUNK]
                nonce = (base ^ chunk).to_bytes(_NONCE, "big")
                end += decrypt_into(nonce, piece, None, room[end : end + len(piece) - TAG])
                chunk += 1
        except InvalidTag:
            # The library leaves what it could not authenticate in the buffer.
            room[:] = bytes(len(room))
            raise self._fail() from None
        self._chunk = chunk
        start = min(self._skip, end)
        stop = min(start + self._take, end)
        self._skip -= start
        self._take -= stop - start
        return start, stop


def _opened_size(chunks: bytearray | memoryview) -> int:
    """Return how much plaintext is in whole chunks, of which the last may be short."""
    return len(chunks) - (len(chunks) + SEALED_CHUNK - 1) // SEALED_CHUNK * TAG
