"""Whether a replica opens: the proof that needs keys, from one target's bytes alone.

Guarantees that a replica which passes can be read back whole with what this target holds: its envelope's
wrapped key opens, with it the attributes, and every byte of the body to the content whose digests were
recorded. Plaintext is in memory only, a piece at a time, and goes nowhere. A key that the key service does
not give out now proves nothing, and is no damage.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from envelope.envelope import Attributes, Core, Envelope, Wrap, decode, open_attributes
from envelope.errors import EnvelopeError
from envelope.segment import SegmentOpener
from envelope.wrap import kek_id
from gateway.errors import DigestMismatch, GatewayError, StoreDamaged, Unreadable
from gateway.flow.digests import INTERNAL, SUPPORTED, Digests
from gateway.keys.data_keys import KeyService, unwrap, wrapped_key
from gateway.model import Version, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.ports import Store
from gateway.repair.verify import UNOPENED, check_envelope, known_envelope, whole
from keyservice.wire import CannotUnwrap, KeyServiceError

_KNOWN = frozenset({*SUPPORTED, INTERNAL})
_TEXT = "a replica does not open"


class Locked(GatewayError):
    """The key service does not give out this tenant's keys now."""


class Opening:
    """The proof, over one key service. `reason` stands on the key service's record."""

    def __init__(self, keys: KeyService, *, reason: str = "scrub") -> None:
        self._keys = keys
        self._reason = reason

    async def check(
        self,
        store: Store,
        version: Version,
        rate: Rate,
        expected: Mapping[str, bytes] | None = None,
    ) -> None:
        """Open a replica whole; its content must have the `expected` digests beside those sealed with it.

        Raises Locked, Unreadable when it is the catalog's own envelope that does not open, StoreDamaged
        (`unopened` where only keys could tell) and other StoreErrors.
        """
        envelope, dek, attributes = await self._begin(store, version, rate)
        known = {name: value for name, value in attributes.digests.items() if name in _KNOWN}
        digests = Digests({*known, *(expected or ())})
        async with aclosing(_sealed(store, version, envelope, rate)) as pieces:
            try:
                await _open(dek, envelope.core, pieces, digests)
                digests.verify(known)
                digests.verify(expected or {})
            except (EnvelopeError, DigestMismatch):
                raise StoreDamaged(_TEXT, reason=UNOPENED) from None

    async def envelope(self, store: Store, version: Version, rate: Rate) -> Envelope:
        """Return a replica's envelope, whose key opens its attributes. Raises as `check`."""
        envelope, _, _ = await self._begin(store, version, rate)
        return envelope

    async def renewed(self, envelope: Envelope) -> Envelope:
        """Return an envelope that opens, under its tenant's current KEK. Raises Locked."""
        tenant, wrapped = envelope.core.context.tenant, [wrapped_key(envelope)]
        try:
            (new,) = await self._keys.rewrap(tenant, wrapped, reason=self._reason, request_id="")
            if isinstance(new, KeyServiceError):
                raise new
            made = Wrap(kek_id(new), new, envelope.newest.created + 1)
        except (KeyServiceError, EnvelopeError) as error:
            raise Locked(type(error).__name__) from error
        return replace(envelope, wraps=(made,))

    async def keks(self, tenant: str) -> Sequence[str]:
        """Return the ids of a tenant's KEKs, the oldest first. Raises Locked."""
        try:
            return [kek.id for kek in (await self._keys.tenant(tenant)).keks]
        except KeyServiceError as error:
            raise Locked(type(error).__name__) from error

    async def _begin(
        self, store: Store, version: Version, rate: Rate
    ) -> tuple[Envelope, bytes, Attributes]:
        """Read and open an envelope; return it with its key and attributes."""
        await rate.take(len(version.envelope), 1)
        await check_envelope(store, version)
        envelope = decode(await whole(store, envelope_key(version.tenant, version.blob)))
        try:
            dek, attributes = await self._unlock(envelope)
        except (CannotUnwrap, EnvelopeError):
            await self._blame(version)
            raise StoreDamaged(_TEXT, reason=UNOPENED) from None
        return envelope, dek, attributes

    async def _unlock(self, envelope: Envelope) -> tuple[bytes, Attributes]:
        """Return key and attributes. Raises CannotUnwrap, EnvelopeErrors and Locked."""
        try:
            dek = await unwrap(self._keys, envelope, reason=self._reason, request_id="")
        except CannotUnwrap:
            raise
        except KeyServiceError as error:
            raise Locked(type(error).__name__) from error
        return dek, open_attributes(dek, envelope.core, envelope.attributes)

    async def _blame(self, version: Version) -> None:
        """Raise Unreadable if the catalog's own envelope does not open either."""
        try:
            await self._unlock(known_envelope(version))
        except (CannotUnwrap, EnvelopeError):
            raise Unreadable("the envelope in the catalog does not open") from None


async def _sealed(
    store: Store, version: Version, envelope: Envelope, rate: Rate
) -> AsyncGenerator[bytes | memoryview]:
    if envelope.body is not None:
        yield envelope.body
        return
    await rate.take(0, 1)
    async with aclosing(store.read(body_key(version.tenant, version.blob))) as pieces:
        async for piece in pieces:
            await rate.take(len(piece))
            yield piece


async def _open(
    dek: bytes, core: Core, pieces: AsyncGenerator[bytes | memoryview], digests: Digests
) -> None:
    """Open every segment. Raises EnvelopeErrors, StoreDamaged when the body ends early or late."""
    segments = iter(core.segments)
    segment = next(segments)
    opener, left = SegmentOpener(dek, core.context, segment), segment.ciphertext_size
    async for piece in pieces:
        view = memoryview(piece)
        while view:
            if not left:
                if (following := next(segments, None)) is None:
                    raise StoreDamaged("a body is longer than its envelope says", reason="long")
                digests.update(opener.finalize())
                opener = SegmentOpener(dek, core.context, following)
                left = following.ciphertext_size
            step = view[:left]
            digests.update(opener.update(step))
            left -= len(step)
            view = view[len(step) :]
    if left or next(segments, None) is not None:
        raise StoreDamaged("a body is shorter than its envelope says", reason="short")
    digests.update(opener.finalize())
