"""The public core of an envelope (docs/format.md, "Core").

Anyone may read it: a backup can be verified against the digests without a key. It is
authenticated by opening the sealed attributes, which are bound to its digest, and by nothing
else: until then it is a claim.
"""

import dataclasses
import hashlib
import struct
from typing import Final

from envelope import canonical
from envelope.context import ID_SIZE, Context
from envelope.errors import Malformed, TooLarge
from envelope.sizes import MAX_PLAINTEXT, SALT, sealed_size

VERSION: Final = 1
DIGEST: Final = 32
MAX_SEGMENTS: Final = 16384
# Microseconds since 1970; 2^53 keeps within what any language holds exactly.
MAX_TIME: Final = (1 << 53) - 1

_VERSION: Final = canonical.encode(VERSION)
_FIELDS: Final = 6  # and one more of a body that was sealed again
_SEGMENT = struct.Struct(f">Q{SALT}s{DIGEST}s")
# Six short fields besides the segments.
MAX_CORE: Final = MAX_SEGMENTS * _SEGMENT.size + 128


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """One sealed piece: size in plaintext, salt, BLAKE3 of its ciphertext (or none yet)."""

    plaintext_size: int
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.plaintext_size <= MAX_PLAINTEXT:
            raise TooLarge("a segment holds less than 4 PiB")
        if len(self.salt) != SALT or len(self.digest) not in {0, DIGEST}:
            raise Malformed("a segment has a 24-byte salt and a 32-byte digest")

    @property
    def ciphertext_size(self) -> int:
        """The size of the sealed segment in bytes."""
        return sealed_size(self.plaintext_size)


@dataclasses.dataclass(frozen=True, slots=True)
class Core:
    """What is public of one body; times in microseconds since the epoch, UTC.

    `resealed` is when the content was sealed again, under the data key that it is under now; None as
    long as that is the first one.
    """

    context: Context
    created: int
    segments: tuple[Segment, ...]
    resealed: int | None = None
    _encoded: list[bytes] = dataclasses.field(  # none or one: it is asked for again and again
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not 0 <= self.created <= MAX_TIME:
            raise Malformed("a creation time is not in microseconds since 1970")
        if self.resealed is not None and not self.created < self.resealed <= MAX_TIME:
            raise Malformed("content was sealed again at a time that cannot be")
        if not self.segments:
            raise Malformed("a body has at least one segment")
        if len(self.segments) > MAX_SEGMENTS:
            raise TooLarge(f"a body has at most {MAX_SEGMENTS} segments")
        if any(len(segment.digest) != DIGEST for segment in self.segments):
            raise Malformed("a segment was sealed without the digest that a core needs")
        if self.plaintext_size > MAX_PLAINTEXT:
            raise TooLarge("a body holds less than 4 PiB")

    @property
    def plaintext_size(self) -> int:
        """The size of the opened body in bytes."""
        return sum(segment.plaintext_size for segment in self.segments)

    @property
    def ciphertext_size(self) -> int:
        """The size of the sealed body in bytes."""
        return sum(segment.ciphertext_size for segment in self.segments)

    @property
    def sealed(self) -> int:
        """When the body was sealed: of two bodies of one version the later one counts."""
        return self.created if self.resealed is None else self.resealed

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        if not self._encoded:
            pack = _SEGMENT.pack
            records = b"".join(pack(s.plaintext_size, s.salt, s.digest) for s in self.segments)
            again = () if self.resealed is None else (self.resealed,)
            core = [VERSION, *self.context.ids(), self.created, records, *again]
            self._encoded.append(canonical.encode(core))
        return self._encoded[0]

    @classmethod
    def decode(cls, data: bytes) -> "Core":
        """Return the core that `data` is the canonical form of."""
        reader = canonical.Reader(data)
        fields = reader.array_of(_FIELDS + 1)
        if fields < _FIELDS:
            raise Malformed("an array does not have the length of its kind")
        reader.expect(_VERSION)
        tenant, attachment, version = (reader.data(ID_SIZE).hex() for _ in range(3))
        context = Context(tenant, attachment, version)
        created = reader.uint(MAX_TIME)
        records = reader.data(MAX_SEGMENTS * _SEGMENT.size)
        resealed = reader.uint(MAX_TIME) if fields > _FIELDS else None
        reader.end()
        if len(records) % _SEGMENT.size:
            raise Malformed("the segments of a core are cut off")
        segments = tuple(Segment(*entry) for entry in _SEGMENT.iter_unpack(records))
        core = cls(context, created, segments, resealed)
        if core.encode() != data:
            raise Malformed("a core is not in canonical form")
        return core

    def digest(self) -> bytes:
        """Return the SHA-512 of the canonical bytes, which names this core in 64 bytes."""
        return hashlib.sha512(self.encode()).digest()
