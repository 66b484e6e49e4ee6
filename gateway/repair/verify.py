"""Whether what a store holds is what the catalog says, told without keys.

Guarantees that a body which passes is the one whose digests the envelope's core names, byte for byte and
no byte more; and that an envelope which passes has the core, the attributes and the inline body of the
catalog's. Its wraps may be older or newer ones, since a rewrap touches nothing else, and whoever asks is told
under which KEK it is; one that is almost a wrap of the catalog's is damage. That a core is authentic only its
key can prove: here it is the catalog's word.
"""

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass

from blake3 import blake3

from envelope.envelope import MAX_ENVELOPE, Core, Envelope, Wrap, decode, encode
from envelope.errors import EnvelopeError
from envelope.sizes import KEY, sealed_size
from gateway.errors import ObjectMissing, StoreDamaged, StoreError, Unreadable
from gateway.model import Version, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.ports import Store

FREE = Rate()
UNOPENED = "unopened"  # the reason of a finding that only keys can tell
MESSAGE = sealed_size(KEY)  # the sealed key at the end of a wrapped one, behind the name of its kek


@dataclass(frozen=True, slots=True)
class Under:
    """What a copy of an envelope is wrapped under.

    `ahead`: by a newer wrap than the catalog's, so that the catalog is an older one. To say then that the
    copy is stale would have the only good wraps overwritten.
    """

    kek: str
    ahead: bool = False

    @property
    def known(self) -> str:
        """The KEK as a `Finding` tells it: nothing where the catalog is behind."""
        return "" if self.ahead else self.kek


class BodyCheck:
    """BLAKE3 of each segment's ciphertext against the core, in one pass, however it is cut."""

    def __init__(self, core: Core) -> None:
        self._segments = core.segments
        self._index = 0
        self._left = core.segments[0].ciphertext_size
        self._hash = blake3()
        self._error: StoreDamaged | None = None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Raises StoreDamaged as soon as they cannot be right."""
        view = memoryview(data)
        while view:
            if self._error is None and self._index == len(self._segments):
                self._error = StoreDamaged("a body is longer than its envelope says", reason="long")
            if self._error is not None:
                raise self._error
            step = view[: self._left]
            self._hash.update(step)
            self._left -= len(step)
            view = view[len(step) :]
            if not self._left:
                self._close()

    def finish(self) -> None:
        """Raise StoreDamaged unless all of the body came and was right."""
        if self._error is None and self._index < len(self._segments):
            self._error = StoreDamaged("a body is shorter than its envelope says", reason="short")
        if self._error is not None:
            raise self._error

    def _close(self) -> None:
        if self._hash.digest() != self._segments[self._index].digest:
            self._error = StoreDamaged("a body is not the one that was sealed", reason="flipped")
            raise self._error
        self._index += 1
        if self._index < len(self._segments):
            self._left = self._segments[self._index].ciphertext_size
            self._hash = blake3()


def claimed_envelope(version: Version) -> Envelope:
    """Return the catalog's envelope, with the inline body if that is at hand.

    Raises Unreadable when it is not this version's.
    """
    try:
        envelope = decode(version.envelope)
        if version.inline is not None:
            envelope = Envelope(envelope.core, envelope.attributes, envelope.wraps, version.inline)
    except EnvelopeError as error:
        raise Unreadable("the envelope in the catalog is damaged") from error
    context = envelope.core.context
    if (context.tenant, context.attachment, context.version) != (
        version.tenant,
        version.attachment,
        version.id,
    ):
        raise Unreadable("the catalog holds another version's envelope here")
    return envelope


def known_envelope(version: Version) -> Envelope:
    """Return the catalog's envelope, with the inline body if there is one.

    Raises Unreadable when it is not this version's, or not that of a body of this size.
    """
    envelope = claimed_envelope(version)
    size = envelope.core.ciphertext_size if version.inline is None else 0
    if version.body_size != size:
        raise Unreadable("the catalog and the envelope disagree on the size")
    return envelope


def stored_envelope(version: Version, known: Envelope | None = None) -> bytes:
    """Return what belongs into a store: the envelope, with the body that travels in it.

    `known` saves the look at the catalog's. Raises Unreadable when what it holds cannot be right.
    """
    envelope = known or known_envelope(version)
    if version.inline is None:
        return version.envelope
    check = BodyCheck(envelope.core)
    try:
        check.update(version.inline)
        check.finish()
    except StoreDamaged as error:
        raise Unreadable("the body in the catalog is damaged") from error
    return encode(envelope)


async def check_envelope(store: Store, version: Version) -> Under:
    """Compare a store's envelope with the catalog's; return what it is wrapped under.

    Raises ObjectMissing, Unreadable when the catalog's is no measure, and StoreDamaged with the reason:
    `damaged` (it cannot be read), `replayed` (another version of the same attachment), `swapped`
    (somebody else's), `flipped` (this one's, altered). Other StoreErrors as `Store.read`.
    """
    known = known_envelope(version)
    try:
        found = decode(await whole(store, envelope_key(version.tenant, version.blob)))
    except EnvelopeError as error:
        raise StoreDamaged("an envelope cannot be read") from error
    theirs, ours = found.core.context, known.core.context
    # No two blobs share a salt: with our segments it is ours, its ids altered.
    if theirs != ours and found.core.segments != known.core.segments:
        same = (theirs.tenant, theirs.attachment) == (ours.tenant, ours.attachment)
        raise StoreDamaged(
            "an envelope is another version's", reason="replayed" if same else "swapped"
        )
    if (found.core, found.attributes, found.body) != (known.core, known.attributes, known.body):
        raise StoreDamaged("an envelope is not the one that was stored", reason="flipped")
    if any(_almost(wrap, other) for wrap in found.wraps for other in known.wraps):
        raise StoreDamaged("a wrapped key is not the one that was stored", reason="flipped")
    last, ours_last = found.newest, known.newest
    return Under(last.kek, last.kek != ours_last.kek and last.created > ours_last.created)


async def weigh_envelope(store: Store, others: Iterable[Store], version: Version) -> None:
    """Raise Unreadable if an envelope that differs from the catalog's is likely to be the right one.

    That is so when another store holds the very same: two stores are not damaged alike, and what is in
    all of them can be the only one that opens. Where another store cannot say, and none is with the
    catalog, it has a `retry_after`. Other StoreErrors as `Store.read`.
    """
    known, waits, sure = known_envelope(version), False, False
    try:
        strange = await _strange(store, version, known)
    except (ObjectMissing, EnvelopeError, StoreDamaged):
        return
    if not strange:
        return
    for other in others:
        try:
            theirs = await _strange(other, version, known)
        except (ObjectMissing, EnvelopeError, StoreDamaged):
            continue
        except StoreError:
            waits = True
            continue
        if theirs == strange:
            raise Unreadable("two stores agree on an envelope that the catalog contradicts")
        sure = sure or not theirs
    if waits and not sure:
        raise Unreadable("no other store can say which envelope is right", retry_after=5.0)


async def check_body(store: Store, version: Version, core: Core, rate: Rate = FREE) -> None:
    """Read a store's whole body against a core. Raises what `Store.read` raises."""
    check = BodyCheck(core)
    await rate.take(0, 1)
    pieces = store.read(body_key(version.tenant, version.blob))
    async with aclosing(pieces):
        async for piece in pieces:
            await rate.take(len(piece))
            check.update(piece)
    check.finish()


async def check_replica(store: Store, version: Version, rate: Rate | None = None) -> Under:
    """Verify a whole replica, the envelope first, as that check. Raises what both checks raise."""
    rate = rate or FREE
    await rate.take(len(version.envelope), 1)
    under = await check_envelope(store, version)
    if version.inline is None:
        await check_body(store, version, known_envelope(version).core, rate)
    return under


async def whole(store: Store, key: str) -> bytes:
    """Return an object that is no larger than an envelope can be. Raises StoreErrors."""
    data = bytearray()
    pieces = store.read(key)
    async with aclosing(pieces):
        async for piece in pieces:
            data += piece
            if len(data) > MAX_ENVELOPE:
                raise StoreDamaged("an envelope is larger than one can be")
    return bytes(data)


async def _strange(store: Store, version: Version, known: Envelope) -> tuple[object, ...]:
    """Return what is in a store's envelope that contradicts the catalog's, nothing if all agrees.

    Raises EnvelopeError, StoreDamaged for somebody else's, and other StoreErrors.
    """
    found = decode(await whole(store, envelope_key(version.tenant, version.blob)))
    if found.core.context != known.core.context:
        raise StoreDamaged("an envelope is another version's", reason="swapped")
    sealed = (found.core, found.attributes, found.body)
    if sealed != (known.core, known.attributes, known.body):
        return sealed
    return tuple(w for w in found.wraps if any(_almost(w, other) for other in known.wraps))


def _almost(found: Wrap, known: Wrap) -> bool:
    """Tell whether a wrap is one that we know, but for damage.

    A rewrap changes the message and its time, and mostly the kek. What damage leaves in common with the
    one that it hit is two of the three.
    """
    same = (
        found.kek == known.kek,
        found.created == known.created,
        found.wrapped[-MESSAGE:] == known.wrapped[-MESSAGE:],
    )
    return found != known and sum(same) > 1
