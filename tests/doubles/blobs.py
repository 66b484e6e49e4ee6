"""Sealed versions for tests, made without a gateway: real envelopes and bodies under a key of no tenant."""

import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from awscrt.checksums import crc64nvme

from envelope.context import Context
from envelope.envelope import Attributes, Core, Envelope, Wrap, decode, encode, seal_attributes
from envelope.segment import SegmentSealer
from envelope.wrap import wrap
from gateway.model import (
    Precondition,
    ReplicaState,
    Upload,
    Version,
    body_key,
    envelope_key,
    new_id,
    now,
)
from gateway.ports import Catalog, Piece, Store
from gateway.repair.verify import stored_envelope

KEK = b"k" * 32


@dataclass(frozen=True, slots=True)
class Blob:
    """A version as the catalog has it, its body as the stores have it, and its data key."""

    version: Version
    body: bytes = field(repr=False)
    dek: bytes = field(repr=False)

    @property
    def body_key(self) -> str:
        """Where the body belongs."""
        return body_key(self.version.tenant, self.version.blob)

    @property
    def envelope_key(self) -> str:
        """Where the envelope belongs."""
        return envelope_key(self.version.tenant, self.version.blob)

    @property
    def sealed(self) -> bytes:
        """What belongs there."""
        return stored_envelope(self.version)


def seal(
    content: bytes,
    *,
    cuts: Iterable[int] = (),
    inline: bool = False,
    tenant: str | None = None,
    attachment: str | None = None,
    version: str | None = None,
) -> Blob:
    """Seal content, as one segment or as several that begin at `cuts`."""
    context = Context(tenant or new_id(), attachment or new_id(), version or new_id())
    dek, segments, body = os.urandom(32), [], b""
    edges = [0, *cuts, len(content)]
    for start, stop in itertools.pairwise(edges):
        sealer = SegmentSealer(dek, context)
        body += sealer.update(content[start:stop]) + sealer.finalize()
        segments.append(sealer.segment)
    core = Core(context=context, created=1, segments=tuple(segments))
    attributes = seal_attributes(dek, core, Attributes(None, None, "report", {}, {}))
    wrapped = wrap(KEK, "k1", dek, b"context")
    envelope = Envelope(core, attributes, (Wrap("k1", wrapped, 1),))
    made = Version(
        id=context.version,
        attachment=context.attachment,
        tenant=context.tenant,
        blob=new_id(),
        created=now(),
        size=len(content),
        body_size=0 if inline else len(body),
        envelope=encode(envelope),
        kek="k1",
        inline=body if inline else None,
    )
    return Blob(made, body, dek)


def piece(data: bytes) -> Piece:
    """Make what a store takes."""
    return Piece(memoryview(data), crc64nvme(data))


async def place(store: Store, blob: Blob) -> None:
    """Put a whole replica into a store."""
    if blob.version.inline is None:
        await store.put(blob.body_key, piece(blob.body))
    await store.put(blob.envelope_key, piece(blob.sealed))


async def commit(
    catalog: Catalog,
    tenant: str,
    content: bytes,
    stores: Mapping[str, Store],
    *,
    on: Collection[str],
    inline: bool = False,
) -> Blob:
    """Store a version whole on some of the targets, and commit it as missing on the others."""
    upload = Upload(new_id(), tenant, new_id(), new_id(), now(), now())
    await catalog.begin(upload, upload.id)
    blob = seal(
        content, inline=inline, tenant=tenant, attachment=upload.attachment, version=upload.id
    )
    blob = replace(blob, version=replace(blob.version, blob=upload.blob))
    for name in on:
        await place(stores[name], blob)
    states = {name: ReplicaState.STORED if name in on else ReplicaState.MISSING for name in stores}
    await catalog.commit(blob.version, states, Precondition(), None)
    return blob


async def overwrite(store: Store, key: str, data: bytes) -> None:
    """Put other bytes where an object is, as a store never does by itself."""
    await store.delete(key)
    await store.put(key, piece(data))


async def whole(store: Store, key: str) -> bytes:
    """Read an object."""
    return b"".join([bytes(each) async for each in store.read(key)])


def flipped(data: bytes, at: int) -> bytes:
    """Flip one bit (counted from the first byte's lowest)."""
    damaged = bytearray(data)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def rewrapped(blob: Blob) -> Version:
    """Return the version as after a rotation: the same key under a newer kek."""
    envelope = decode(blob.version.envelope)
    newer = Wrap("k2", wrap(b"n" * 32, "k2", blob.dek, b"context"), 2)
    return replace(blob.version, envelope=encode(replace(envelope, wraps=(newer,))), kek="k2")
