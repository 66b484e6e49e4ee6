"""The envelope: the small record that makes a body openable (docs/format.md, "Envelope").

Decoding guarantees shape, bounds and the one canonical form; it authenticates nothing. Opening
the attributes authenticates core and DEK; each wrap authenticates itself; an inline body is
authenticated as it opens, like any other.
"""

import dataclasses
from typing import Final

from envelope import canonical
from envelope.attributes import (
    MAX_SEALED_ATTRIBUTES,
    Attributes,
    open_attributes,
    seal_attributes,
)
from envelope.core import MAX_CORE, MAX_SEGMENTS, MAX_TIME, Core, Segment
from envelope.errors import Malformed, TooLarge
from envelope.sizes import sealed_size
from envelope.wrap import MAX_WRAPPED, kek_id

__all__ = [
    "MAGIC",
    "MAX_ENVELOPE",
    "MAX_INLINE",
    "MAX_SEGMENTS",
    "MAX_WRAPS",
    "Attributes",
    "Core",
    "Envelope",
    "Segment",
    "Wrap",
    "decode",
    "encode",
    "encode_bare",
    "open_attributes",
    "seal_attributes",
]

MAGIC: Final = "sealgate/1"
MAX_WRAPS: Final = 8
# Ciphertext of an inline body, which may have several segments.
MAX_INLINE: Final = 1 << 20
# Nothing larger is even looked at; the sum of all bounds is near 2.2 MiB.
MAX_ENVELOPE: Final = 4 << 20

_MAGIC: Final = canonical.encode(MAGIC)
_MIN_SEALED_ATTRIBUTES: Final = sealed_size(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Wrap:
    """The DEK wrapped under the KEK `kek`, at `created` microseconds since the epoch."""

    kek: str
    wrapped: bytes
    created: int

    def __post_init__(self) -> None:
        if kek_id(self.wrapped) != self.kek:
            raise Malformed("a wrap names another kek than its wrapped key")
        if not 0 <= self.created <= MAX_TIME:
            raise Malformed("the time of a wrap is not in microseconds since 1970")


@dataclasses.dataclass(frozen=True, slots=True)
class Envelope:
    """Core, sealed attributes, one to eight wraps, and the sealed body if it is inline."""

    core: Core
    attributes: bytes
    wraps: tuple[Wrap, ...]
    body: bytes | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _MIN_SEALED_ATTRIBUTES <= len(self.attributes) <= MAX_SEALED_ATTRIBUTES:
            raise Malformed("sealed attributes do not have a possible length")
        if not 1 <= len(self.wraps) <= MAX_WRAPS:
            raise Malformed(f"an envelope has 1 to {MAX_WRAPS} wraps")
        if len({wrap.kek for wrap in self.wraps}) != len(self.wraps):
            raise Malformed("an envelope has two wraps under one kek")
        if self.body is not None and len(self.body) != self.core.ciphertext_size:
            raise Malformed("an inline body does not have the length that the core says")
        if self.body is not None and len(self.body) > MAX_INLINE:
            raise TooLarge("an inline body is at most 1 MiB when sealed")

    @property
    def newest(self) -> Wrap:
        """The wrap that was made last: the one to open."""
        return max(self.wraps, key=lambda wrap: wrap.created)


def encode(envelope: Envelope) -> bytes:
    """Return the canonical bytes."""
    return _encode(envelope, envelope.body)


def encode_bare(envelope: Envelope) -> bytes:
    """Return the canonical bytes of the same envelope without an inline body."""
    return _encode(envelope, None)


def _encode(envelope: Envelope, body: bytes | None) -> bytes:
    return canonical.encode(
        [
            MAGIC,
            envelope.core.encode(),
            envelope.attributes,
            [[wrap.wrapped, wrap.created] for wrap in envelope.wraps],
            body,
        ]
    )


def decode(data: bytes) -> Envelope:
    """Return the envelope that `data` is the canonical form of."""
    if len(data) > MAX_ENVELOPE:
        raise TooLarge("an envelope is at most 4 MiB")
    reader = canonical.Reader(data)
    reader.array(5)
    reader.expect(_MAGIC)
    core = Core.decode(reader.data(MAX_CORE))
    attributes = reader.data(MAX_SEALED_ATTRIBUTES)
    wraps = tuple(_decode_wrap(reader) for _ in range(reader.array_of(MAX_WRAPS)))
    body = None if reader.null() else reader.data(MAX_INLINE)
    reader.end()
    envelope = Envelope(core, attributes, wraps, body)
    if encode(envelope) != data:
        raise Malformed("an envelope is not in canonical form")
    return envelope


def _decode_wrap(reader: canonical.Reader) -> Wrap:
    reader.array(2)
    wrapped = reader.data(MAX_WRAPPED)
    return Wrap(kek_id(wrapped), wrapped, reader.uint(MAX_TIME))
