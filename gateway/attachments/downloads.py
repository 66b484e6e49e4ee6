"""A download: version, key, authentic attributes, then any range of the body opened as it streams.

Guarantees that only authenticated plaintext is released, that what is released is the content of the
version the catalog names, under the reference it was stored for, and that a store which fails, stalls
or returns damaged bytes is left for another at the same byte, so that the reader notices nothing. While
there is another nothing is tried twice, and one that was silent is asked last for a while. Only when no
target at all gives authentic bytes does a read fail. Blames a replica for its own bytes alone: what is
wrong with the envelope in the catalog is no target's fault.
Reads of small bodies touch no store. Implements "A download" of `docs/architecture.md`.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

import structlog

from envelope.errors import EnvelopeError
from envelope.ranges import Extent, plan
from gateway.attachments.opened import Opened, attributes_of, envelope_of, open_inline, opener_of
from gateway.errors import (
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Unreadable,
)
from gateway.flow.hedge import Begun, Budget, Pieces, Turn, Unwatched, Watch, begin, begin_either
from gateway.keys.data_keys import KeyService, unwrap
from gateway.model import Found, ReplicaState, body_key
from gateway.ports import Catalog, Finding
from gateway.targets.quorum import Target
from gateway.targets.ranking import Ranking
from gateway.targets.replica import Haste, read

log = structlog.get_logger()

_REASONS: Mapping[type[StoreError], str] = {
    ObjectMissing: "absent",
    StoreDamaged: "damaged",
    StoreDenied: "denied",
}
_STATES = {"absent": ReplicaState.MISSING, "damaged": ReplicaState.DAMAGED}


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
        self._budget = Budget()

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
            for plaintext in open_inline(
                opened, memoryview(opened.found.version.inline), start, stop
            ):
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
            opener = opener_of(opened, extent)
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
                budget=self._budget,
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
                self._report(Finding(version.id, target.name, state, reason, version.blob))
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
