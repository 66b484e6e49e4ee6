"""What proves a version's envelope, and what opens its body: bytes in, bytes out.

Guarantees that an envelope is that of the version, the attachment and the reference that the catalog names,
before anything of it is believed. Reads nothing: whose bytes they are is the caller's to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from envelope.envelope import Attributes, Envelope, decode, open_attributes
from envelope.errors import EnvelopeError
from envelope.ranges import Extent, RangeOpener, plan
from envelope.segment import SegmentOpener
from gateway.errors import Unreadable
from gateway.model import Found


@dataclass(frozen=True, slots=True)
class Opened:
    """A version whose envelope is authenticated, and the key to read its body with."""

    found: Found
    envelope: Envelope = field(repr=False)
    attributes: Attributes = field(repr=False)
    dek: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return self.found.version.size


def envelope_of(found: Found) -> Envelope:
    """Return the envelope in the catalog, a claim as yet. Raises Unreadable if it is not this version's."""
    try:
        envelope = decode(found.version.envelope)
    except EnvelopeError as error:
        raise Unreadable("the envelope in the catalog is damaged") from error
    context = envelope.core.context
    named = (found.attachment.tenant, found.attachment.id, found.version.id)
    if (context.tenant, context.attachment, context.version) != named:
        raise Unreadable("the catalog holds another version's envelope here")
    return envelope


def attributes_of(found: Found, envelope: Envelope, dek: bytes) -> Attributes:
    """Return the attributes, which prove the envelope and what the catalog says beside it.

    Raises Unreadable. The reference is compared because the ids in the context are random: whoever
    writes to the catalog could have given one attachment's to another.
    """
    try:
        attributes = open_attributes(dek, envelope.core, envelope.attributes)
    except EnvelopeError as error:
        raise Unreadable("the envelope in the catalog is damaged") from error
    if attributes.reference != found.attachment.reference:
        raise Unreadable("the catalog names another attachment's content here")
    if envelope.core.plaintext_size != found.version.size:
        raise Unreadable("the catalog and the envelope disagree on the size")
    return attributes


def opener_of(opened: Opened, extent: Extent) -> RangeOpener | SegmentOpener:
    """Return what opens one extent of the body."""
    core = opened.envelope.core
    segment = core.segments[extent.segment]
    if extent.take == segment.plaintext_size:  # the library opens a whole one, all in native code
        return SegmentOpener(opened.dek, core.context, segment)
    return RangeOpener(opened.dek, core.context, segment, extent)


def open_inline(opened: Opened, body: memoryview, start: int, stop: int) -> Iterator[bytes]:
    """Open a range of a body that is in the catalog. Raises Unreadable."""
    for extent in plan(opened.envelope.core.segments, start, stop):
        opener = opener_of(opened, extent)
        try:
            plaintext = opener.update(body[extent.start : extent.stop])
            plaintext += opener.finalize()
        except EnvelopeError as error:
            raise Unreadable("the body in the catalog is damaged") from error
        yield plaintext
