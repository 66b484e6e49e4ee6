"""What a store offers as envelopes, and which of it is to be believed.

Nothing that a store says is taken for granted. An envelope counts only when the key service opens its
key for exactly this tenant, attachment and version, when that key opens its attributes (which proves
the core), and when it lies where its tenant's objects lie with a body of the size that it needs. What
this cannot show is what a store withholds, and whether the bytes of a body are still good.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from envelope.envelope import MAX_ENVELOPE, Envelope, decode, encode_bare, open_attributes
from envelope.errors import EnvelopeError
from gateway.errors import ObjectMissing, StoreDamaged, Unreadable, first
from gateway.keys.data_keys import KeyService, wrapped_key
from gateway.model import SYSTEM, Tenant, Version, envelope_key, moment
from gateway.pacing.patience import Patience
from gateway.ports import Recovered, Store
from gateway.repair.verify import whole
from keyservice.wire import (
    CannotUnwrap,
    Denied,
    KeyServiceError,
    Shredded,
    Suspended,
    Unavailable,
    UnknownTenant,
)

AT_ONCE: Final = 32  # envelopes that are read at a time
BATCH: Final = 500  # envelopes whose keys are asked for at once
BATCH_BYTES: Final = 16 << 20
_YIELD_EVERY: Final = 32
_KEY: Final = re.compile(r"t/([0-9a-f]{32})/([0-9a-f]{32})/(body|envelope)")
_LATEST: Final = moment(0).replace(year=9999)  # of a tenant, until its attachments say better
_FINAL: Final = (Denied, UnknownTenant, Suspended, Shredded)


@dataclass(frozen=True, slots=True)
class Offer:
    """An envelope that a store lists, and the size of the body beside it (None: there is none)."""

    tenant: str
    blob: str
    size: int
    body: int | None


@dataclass(slots=True)
class Listing:
    """What a listing holds beside envelopes."""

    bodies: int = 0  # without an envelope: leftovers
    strange: int = 0  # no key of ours
    system: int = 0  # of the reserved tenant


@dataclass(frozen=True, slots=True)
class Batch:
    """What some envelopes of one tenant came to: versions, or why there is none, by blob."""

    tenant: str
    keys: Tenant | None = None  # None: the tenant's keys cannot be had, and `reason` says why
    reason: str = ""
    found: Sequence[Recovered] = ()
    refused: dict[str, str] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()  # what somebody was writing before it was read


class Envelopes:
    """Reads the envelopes of one store, over one key service, which is waited for with `patience`."""

    def __init__(self, store: Store, keys: KeyService, *, patience: Patience) -> None:
        self._store = store
        self._keys = keys
        self._patience = patience
        # Only of the last tenant: they come in order, and a store can make up any number of them.
        self._last: tuple[str, Tenant | str] | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def offers(self, listing: Listing) -> AsyncGenerator[Offer]:
        """List what is there, in order of tenant and blob.

        Raises StoreErrors, and Unreadable for a store that lists in another order.
        """
        body: tuple[str, str, int] | None = None
        last = ""
        async for stat in self._store.list("t/"):
            shape = _KEY.fullmatch(stat.key)
            if shape is None:
                listing.strange += 1
                continue
            if stat.key < last:  # bodies would be taken for missing, and tenants for others
                raise Unreadable(
                    "the target does not list its objects in order of their keys: copy it to one that does"
                )
            last = stat.key
            tenant, blob, kind = shape.groups()
            if tenant == SYSTEM:
                listing.system += kind == "envelope"
            elif kind == "body":
                listing.bodies += body is not None
                body = (tenant, blob, stat.size)
            else:
                beside = body is not None and body[:2] == (tenant, blob)
                listing.bodies += body is not None and not beside
                yield Offer(tenant, blob, stat.size, body[2] if body and beside else None)
                body = None
        listing.bodies += body is not None

    async def batches(
        self, offers: AsyncIterator[Offer], wanted: Callable[[Sequence[Offer]], Awaitable[set[str]]]
    ) -> AsyncGenerator[Sequence[Offer]]:
        """Group offers by tenant, within the bounds of a batch, and keep those whose blobs are wanted."""
        batch: list[Offer] = []
        size = 0
        async for offer in offers:
            if batch and (
                offer.tenant != batch[0].tenant
                or len(batch) >= BATCH
                or size + offer.size > BATCH_BYTES
            ):
                yield await _wanted(batch, wanted)
                batch, size = [], 0
            batch.append(offer)
            size += min(offer.size, MAX_ENVELOPE)
        if batch:
            yield await _wanted(batch, wanted)

    async def open(self, offers: Sequence[Offer], *, request_id: str = "") -> Batch:
        """Read and prove the envelopes of one tenant.

        Raises StoreErrors other than for a single object, and KeyServiceErrors when patience ends.
        """
        tenant = offers[0].tenant
        keys = await self._tenant(tenant, request_id)
        if isinstance(keys, str):
            return Batch(tenant, reason=keys, refused={offer.blob: keys for offer in offers})
        refused: dict[str, str] = {}
        read: dict[str, Envelope] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for offer in offers:
                    group.create_task(self._read(offer, read, refused))
        except BaseExceptionGroup as error:
            raise first(error) from None
        deks = await self._unwrap(tenant, list(read.values()), request_id)
        if isinstance(deks, str):
            return Batch(tenant, reason=deks, refused=refused | dict.fromkeys(read, deks))
        found = []
        for number, ((blob, envelope), dek) in enumerate(zip(read.items(), deks, strict=True), 1):
            try:
                found.append(_recovered(blob, envelope, dek))
            except EnvelopeError:
                refused[blob] = "unopened"
            except CannotUnwrap:
                refused[blob] = "unwrapped"
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return Batch(tenant, keys, found=found, refused=refused)

    async def _read(self, offer: Offer, read: dict[str, Envelope], refused: dict[str, str]) -> None:
        async with self._slots:
            try:
                data = await whole(self._store, envelope_key(offer.tenant, offer.blob))
                envelope = decode(data)
            except ObjectMissing:
                refused[offer.blob] = "absent"
            except (StoreDamaged, EnvelopeError):
                refused[offer.blob] = "damaged"
            else:
                if reason := _misfit(offer, envelope):
                    refused[offer.blob] = reason
                else:
                    read[offer.blob] = envelope

    async def _tenant(self, tenant: str, request_id: str) -> Tenant | str:
        """Return a tenant as the key service knows it, or why its keys cannot be had."""
        if self._last is None or self._last[0] != tenant:
            self._last = tenant, await self._ask_tenant(tenant, request_id)
        return self._last[1]

    async def _ask_tenant(self, tenant: str, request_id: str) -> Tenant | str:
        try:
            keys = await self._patience.keep(
                lambda: self._keys.tenant(tenant, request_id=request_id)
            )
        except _FINAL as error:
            return error.code
        return Tenant(tenant, keys.tier, _LATEST) if keys.state == "active" else keys.state

    async def _unwrap(
        self, tenant: str, envelopes: Sequence[Envelope], request_id: str
    ) -> Sequence[bytes | KeyServiceError] | str:
        wrapped = [wrapped_key(envelope) for envelope in envelopes]
        if not wrapped:
            return ()

        async def ask() -> Sequence[bytes | KeyServiceError]:
            deks = await self._keys.unwrap(tenant, wrapped, reason="rebuild", request_id=request_id)
            for dek in deks:
                if isinstance(dek, Unavailable):  # of one KEK: as good as all of them
                    raise dek
            return deks

        try:
            return await self._patience.keep(ask)
        except _FINAL as error:
            self._last = tenant, error.code
            return error.code


async def _wanted(
    batch: Sequence[Offer], wanted: Callable[[Sequence[Offer]], Awaitable[set[str]]]
) -> Sequence[Offer]:
    blobs = await wanted(batch)
    return [offer for offer in batch if offer.blob in blobs]


def _misfit(offer: Offer, envelope: Envelope) -> str:
    """Say why an envelope cannot belong where it lies, or nothing."""
    if envelope.core.context.tenant != offer.tenant:
        return "misplaced"
    if envelope.body is None and offer.body is None:
        return "bodiless"
    if envelope.body is None and offer.body != envelope.core.ciphertext_size:
        return "short"
    return ""


def _recovered(blob: str, envelope: Envelope, dek: bytes | KeyServiceError) -> Recovered:
    """Prove an envelope. Raises CannotUnwrap and EnvelopeErrors."""
    if isinstance(dek, KeyServiceError):
        raise CannotUnwrap
    core = envelope.core
    attributes = open_attributes(dek, core, envelope.attributes)
    version = Version(
        id=core.context.version,
        attachment=core.context.attachment,
        tenant=core.context.tenant,
        blob=blob,
        created=moment(core.created),
        size=core.plaintext_size,
        body_size=0 if envelope.body is not None else core.ciphertext_size,
        envelope=encode_bare(envelope),
        kek=envelope.newest.kek,
        inline=envelope.body,
    )
    again = None if core.resealed is None else moment(core.resealed)
    return Recovered(version, attributes.reference, again)
