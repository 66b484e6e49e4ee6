"""A download: version, key, authentic attributes, then any range of the body opened as it streams.

Guarantees that only authenticated plaintext is released, that what is released is the content of the
version the catalog names, under the reference it was stored for, and that a store which fails, stalls
or returns damaged bytes is left for another at the same byte, so that the reader notices nothing. While
there is another nothing is tried twice, and one that was silent is asked last for a while. Only when no
target at all gives authentic bytes does a read fail. Blames a replica for its own bytes alone: what is
wrong with the envelope in the catalog is no target's fault.
Reads of small bodies touch no store. Implements "A download" of `docs/architecture.md`.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from envelope.envelope import Attributes, Envelope, decode, open_attributes
from envelope.errors import EnvelopeError
from envelope.ranges import Extent, RangeOpener, plan
from envelope.segment import SegmentOpener
from gateway.errors import (
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Unreadable,
)
from gateway.hedge import Begun, Pieces, Turn, Unwatched, Watch, begin, begin_either
from gateway.keys import KeyService, unwrap
from gateway.model import Found, ReplicaState, body_key
from gateway.ports import Catalog, Finding
from gateway.quorum import Target
from gateway.ranking import Ranking
from gateway.replica import Haste, read

log = structlog.get_logger()

_REASONS: Mapping[type[StoreError], str] = {
    ObjectMissing: "absent",
    StoreDamaged: "damaged",
    StoreDenied: "denied",
}
_STATES = {"absent": ReplicaState.MISSING, "damaged": ReplicaState.DAMAGED}


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

    `haste` is how long a target may be silent while another may be asked instead; after `hedge_after`
    seconds without its first byte the next one is asked as well (0: never). `report` is told of replicas
    that are missing or damaged, and must return at once.
    """

    def __init__(
        self,
        catalog: Catalog,
        keys: KeyService,
        targets: Callable[[], Sequence[Target]],
        *,
        haste: Haste = Haste(),  # noqa: B008 - a frozen value
        hedge_after: float = 0.0,
        report: Callable[[Finding], None] = lambda _: None,
        watch: Watch = Unwatched(),  # noqa: B008 - it keeps nothing
    ) -> None:
        self._catalog = catalog
        self._keys = keys
        self._targets = targets  # the primary of the moment first
        self._haste = haste
        self._hedge_after = hedge_after
        self._report = report
        self._watch = watch
        self._ranking = Ranking()

    async def open(self, found: Found, *, request_id: str, reason: str = "download") -> Opened:
        """Authenticate a version's envelope. Raises KeyServiceErrors and Unreadable.

        `reason` stands on the key service's record.
        """
        envelope = envelope_of(found)
        dek = await unwrap(self._keys, envelope, reason=reason, request_id=request_id)
        attributes = attributes_of(found, envelope, dek)
        return Opened(found, envelope, attributes, dek)

    async def read(self, opened: Opened, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Stream the plaintext [start, stop). Raises Unreadable when no target can serve it."""
        if opened.found.version.inline is not None:
            for plaintext in _inline(opened, memoryview(opened.found.version.inline), start, stop):
                yield plaintext
            return
        rounds = self._rounds(opened.found)
        broken: set[str] = set()  # whose copy is no good; the others were merely out of reach
        for haste, targets in rounds:
            waiting = [target for target in targets if target.name not in broken]
            while waiting:
                turn = Turn(waiting.pop(0))
                sealed = self._from(turn, waiting, opened, start, stop, haste)
                try:
                    async with aclosing(sealed) as pieces:
                        async for plaintext in pieces:
                            start += len(plaintext)
                            yield plaintext
                except StoreError as error:
                    self._failed(turn.target, opened, error)
                    if turn.target in waiting:  # asked ahead of its turn
                        waiting.remove(turn.target)
                    if not isinstance(error, StoreUnavailable):
                        broken.add(turn.target.name)
                else:
                    return
        tried = ", ".join(dict.fromkeys(t.name for _, targets in rounds for t in targets)) or "none"
        raise Unreadable(f"no target could give this version (tried: {tried})", retry_after=5.0)

    async def _from(  # noqa: PLR0917 - one step of `read`, with what it knows
        self,
        turn: Turn,
        waiting: list[Target],
        opened: Opened,
        start: int,
        stop: int,
        haste: Haste | None,
    ) -> AsyncGenerator[bytes]:
        """Stream the plaintext [start, stop) from the turn's target, or from the next if it is quicker.

        Raises StoreErrors of the turn's target; StoreDamaged for bytes that are not authentic.
        """
        for extent in plan(opened.envelope.core.segments, start, stop):
            opener = _opener(opened, extent)
            begun = await self._begin(turn, waiting, opened, extent, haste)
            async with aclosing(begun.rest) as pieces:
                piece = begun.piece
                while piece is not None:
                    try:
                        plaintext = opener.update(piece)
                    except EnvelopeError:
                        raise StoreDamaged("flipped") from None
                    if plaintext:
                        yield plaintext
                    piece = await anext(pieces, None)
            try:
                plaintext = opener.finalize()
            except EnvelopeError:
                raise StoreDamaged("flipped") from None
            if plaintext:
                yield plaintext

    async def _begin(
        self,
        turn: Turn,
        waiting: list[Target],
        opened: Opened,
        extent: Extent,
        haste: Haste | None,
    ) -> Begun:
        """Ask for one extent. Whoever is asked ahead of its turn leaves `waiting`."""
        key = body_key(opened.found.version.tenant, opened.found.version.blob)
        first = turn.target

        def ask(target: Target) -> Pieces:
            return read(target.store, key, extent.start, extent.stop, haste=haste)

        def failed(target: Target, error: StoreError) -> None:
            self._failed(target, opened, error)
            if target in waiting:
                waiting.remove(target)

        if haste is None or not waiting or not self._hedge_after:
            begun = await begin(turn, ask)
        else:
            begun = await begin_either(
                turn,
                waiting[0],
                ask,
                after=self._hedge_after,
                failed=failed,
                slower=self._ranking.slower,
                watch=self._watch,
            )
            if turn.target is not first:
                waiting[:] = [*(each for each in waiting if each is not turn.target), first]
        self._ranking.answered(turn.target.name, begun.seconds)
        self._watch.began(turn.target.name, begun.seconds)
        return begun

    def _failed(self, target: Target, opened: Opened, error: StoreError) -> None:
        version = opened.found.version
        reason = _REASONS.get(type(error), "unavailable")
        log.warning("replica failed", target=target.name, blob=version.blob, reason=reason)
        self._watch.replica_failed(target.name, reason)
        if reason in _STATES:
            state = _STATES[reason]
            if opened.found.replicas.get(target.name) is ReplicaState.STORED:
                self._report(Finding(version.id, target.name, state, reason))
        else:  # the target's fault, not this body's
            self._ranking.failed(target.name)

    def _rounds(self, found: Found) -> list[tuple[Haste | None, list[Target]]]:
        """Return whom to ask, in which order and how patiently.

        In haste while there are others, those that hold the version, the primary first; then those that
        may: only what is authentic is given out, wherever it comes from. Then, with patience, those that
        hold it and were out of reach.
        """
        held, others = [], []
        for target in self._targets():
            state = found.replicas.get(target.name)
            if state is ReplicaState.STORED:
                held.append(target)
            elif state is not ReplicaState.DELETING:
                others.append(target)
        held = self._ranking.order(held)
        if len(held) > 1:
            return [(self._haste, held), (self._haste, others), (None, held)]
        return [(None, held), (self._haste, others)]


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


def _inline(opened: Opened, body: memoryview, start: int, stop: int) -> Iterator[bytes]:
    """Open a range of a body that is in the catalog. Raises Unreadable."""
    for extent in plan(opened.envelope.core.segments, start, stop):
        opener = _opener(opened, extent)
        try:
            plaintext = opener.update(body[extent.start : extent.stop])
            plaintext += opener.finalize()
        except EnvelopeError as error:
            raise Unreadable("the body in the catalog is damaged") from error
        yield plaintext
