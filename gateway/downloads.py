"""A download: version, key, authentic attributes, then any range of the body opened as it streams.

Guarantees that only authenticated plaintext is released, that what is released is the content of the
version the catalog names, under the reference it was stored for, and that a store which fails, stalls
or returns damaged bytes is left for another at the same byte, so that the reader notices nothing. While
there is another nothing is tried twice, and one that was silent is asked last for a while.
Reads of small bodies touch no store. Implements "A download" of `docs/architecture.md`.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from envelope.envelope import Attributes, Envelope, decode, open_attributes
from envelope.errors import EnvelopeError
from envelope.ranges import Extent, RangeOpener, plan
from envelope.segment import SegmentOpener
from gateway.errors import StoreDenied, StoreError, StoreUnavailable, Unreadable
from gateway.keys import KeyService, unwrap
from gateway.model import Found, ReplicaState, body_key
from gateway.ports import Catalog
from gateway.quorum import Target
from gateway.ranking import Ranking
from gateway.replica import Haste, read

log = structlog.get_logger()


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


class Downloads:
    """The use case, over one catalog, one key service and one set of targets.

    `haste` is how long a target may be silent while another may be asked instead.
    """

    def __init__(
        self,
        catalog: Catalog,
        keys: KeyService,
        targets: Sequence[Target],
        *,
        haste: Haste = Haste(),  # noqa: B008 - a frozen value
    ) -> None:
        self._catalog = catalog
        self._keys = keys
        self._targets = targets
        self._haste = haste
        self._ranking = Ranking()

    async def open(self, found: Found, *, request_id: str) -> Opened:
        """Authenticate a version's envelope. Raises KeyServiceErrors and Unreadable."""
        envelope = envelope_of(found)
        dek = await unwrap(self._keys, envelope, reason="download", request_id=request_id)
        attributes = attributes_of(found, envelope, dek)
        return Opened(found, envelope, attributes, dek)

    async def read(self, opened: Opened, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Stream the plaintext [start, stop). Raises Unreadable when no target can serve it."""
        inline = opened.found.version.inline
        if inline is not None:
            for extent in plan(opened.envelope.core.segments, start, stop):
                opener, body = _opener(opened, extent), memoryview(inline)
                try:
                    plaintext = opener.update(body[extent.start : extent.stop])
                    plaintext += opener.finalize()
                except EnvelopeError as error:
                    raise Unreadable("the body in the catalog is damaged") from error
                yield plaintext
            return
        candidates = self._candidates(opened.found)
        left = self._ranking.order(candidates)
        # In haste while there are others; then, with patience, those that were merely out of reach.
        for haste in (self._haste, None) if len(left) > 1 else (None,):
            for target in tuple(left):
                try:
                    async with aclosing(self._from(target, opened, start, stop, haste)) as pieces:
                        async for plaintext in pieces:
                            self._ranking.worked(target.name)
                            start += len(plaintext)
                            yield plaintext
                except (StoreError, EnvelopeError) as error:
                    self._failed(target, opened, error)
                    if not isinstance(error, StoreUnavailable):
                        left.remove(target)
                else:
                    return
        tried = ", ".join(target.name for target in candidates) or "none"
        raise Unreadable(f"no target could give this version (tried: {tried})", retry_after=5.0)

    async def _from(
        self, target: Target, opened: Opened, start: int, stop: int, haste: Haste | None
    ) -> AsyncGenerator[bytes]:
        version = opened.found.version
        key = body_key(version.tenant, version.blob)
        for extent in plan(opened.envelope.core.segments, start, stop):
            opener = _opener(opened, extent)
            sealed = read(target.store, key, extent.start, extent.stop, haste=haste)
            async with aclosing(sealed) as pieces:
                async for piece in pieces:
                    if plaintext := opener.update(piece):
                        yield plaintext
            if plaintext := opener.finalize():
                yield plaintext

    def _failed(self, target: Target, opened: Opened, error: StoreError | EnvelopeError) -> None:
        blob, reason = opened.found.version.blob, type(error).__name__
        log.warning("replica failed", target=target.name, blob=blob, reason=reason)
        if isinstance(error, StoreUnavailable | StoreDenied):  # the target's fault, not this body's
            self._ranking.failed(target.name)

    def _candidates(self, found: Found) -> list[Target]:
        """Targets that hold the version, the primary first, as configured."""
        held = {n for n, state in found.replicas.items() if state is ReplicaState.STORED}
        return [target for target in self._targets if target.name in held]


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


def _opener(opened: Opened, extent: Extent) -> RangeOpener | SegmentOpener:
    core = opened.envelope.core
    segment = core.segments[extent.segment]
    if extent.take == segment.plaintext_size:  # the library opens a whole one, all in native code
        return SegmentOpener(opened.dek, core.context, segment)
    return RangeOpener(opened.dek, core.context, segment, extent)
