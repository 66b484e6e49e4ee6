"""Copies of the catalog on the targets, sealed like everything else there, under the reserved tenant.

Guarantees that a copy is of one moment; that it is listed only once it is whole (the envelope comes
last) and was read back; that nothing of it, plain, touches a disk; that memory stays bounded whatever
the catalog's size; and that a restore is all or nothing. Which copy is the newest is what the copies
prove, not what a store says: a store that hides the newest can only make an older one the newest. One from
the future, taken by a clock that was ahead, is newer than none.
"""

import re
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import inf
from typing import Final

import structlog
from awscrt.checksums import crc64nvme

from envelope.context import Context, Purpose
from envelope.envelope import (
    Attributes,
    Core,
    Envelope,
    Wrap,
    decode,
    encode,
    open_attributes,
    seal_attributes,
)
from envelope.errors import EnvelopeError
from envelope.segment import SegmentOpener, SegmentSealer
from gateway.errors import Invalid, ObjectMissing, StoreDamaged, StoreError, Unreadable
from gateway.flow.buffers import Pool
from gateway.flow.digests import Digests
from gateway.flow.pump import Pump, PumpSettings
from gateway.flow.replication import FanSettings, Replication
from gateway.keys.data_keys import KeyService, unwrap
from gateway.model import SYSTEM, body_key, envelope_key, microseconds, moment, new_id, now
from gateway.pacing.background import Background
from gateway.ports import Dumps, Piece, Store, Told, untold
from gateway.repair.verify import BodyCheck, whole
from gateway.targets.placing import Roster
from gateway.targets.quorum import Quorum, QuorumLost, Target
from gateway.targets.removal import remove
from keyservice.wire import CannotUnwrap, DataKey, KeyServiceError

ATTACHMENT: Final = "0" * 31 + "1"  # of every copy: they are versions of one thing
REFERENCE: Final = "catalog"
KEEP: Final = 30
AHEAD: Final = timedelta(minutes=1)  # by how much the clocks of gateways may differ
_PIECE: Final = 1 << 20
_PLACE: Final = f"t/{SYSTEM}/"
_COPY: Final = re.compile(rf"{_PLACE}([0-9a-f]{{32}})/envelope")
_EVERYWHERE: Final = Quorum(primary=False, backups=0, everywhere=True)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the catalog on one target, authenticated: as it was at `taken`."""

    target: str
    blob: str
    taken: datetime
    size: int  # of what is sealed
    envelope: Envelope = field(repr=False)
    dek: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """What one backup did."""

    taken: datetime
    size: int
    stored: frozenset[str]
    failed: Mapping[str, str]  # target: why
    pruned: int


class CatalogBackups:
    """The use case, over one catalog, one key service, and the targets that copies go to.

    `keep` copies stay on each target.
    """

    def __init__(
        self,
        dumps: Dumps,
        keys: KeyService,
        targets: Sequence[Target],
        *,
        pool: Pool,
        background: Background,
        settings: PumpSettings,
        keep: int = KEEP,
    ) -> None:
        self._dumps = dumps
        self._keys = keys
        self._targets = targets
        self._pool = pool
        self._background = background
        self._settings = replace(settings, inline=0)
        self._keep = keep

    async def make(
        self, names: Sequence[str] = (), *, request_id: str = "", told: Told = untold
    ) -> Made:
        """Copy the catalog to these targets (none named: to all), verify it there, prune older ones.

        Tells how many bytes of it were read.
        Raises Invalid for a target that is not configured, CatalogErrors, KeyServiceErrors, and
        QuorumLost when no target took it.
        """
        targets = self._named(names)
        taken = now()
        version, blob = new_id(), new_id()
        context = Context(SYSTEM, ATTACHMENT, version)
        key = await self._key(context, request_id)
        core, failed = await self._write(targets, blob, context, key, microseconds(taken), told)
        for target in targets:
            if target.name not in failed:
                try:
                    await _verify(target.store, body_key(SYSTEM, blob), core)
                except StoreError as error:
                    failed[target.name] = type(error).__name__
                    self._background.start("remove a bad copy", remove(target.store, SYSTEM, blob))
        stored = [target for target in targets if target.name not in failed]
        if not stored:
            raise QuorumLost("no target holds a whole copy of the catalog")
        pruned = sum([await self._prune(target, blob) for target in stored])
        names_stored = frozenset(target.name for target in stored)
        return Made(taken, core.plaintext_size, names_stored, failed, pruned)

    async def copies(self, target: Target, *, request_id: str = "") -> Sequence[Copy]:
        """Return the copies on a target that open, newest first, and behind them those from the future.

        Raises StoreErrors and KeyServiceErrors. One that does not open is left out, and logged.
        """
        found: dict[str, Copy] = {}
        # In the order of the listing; what has another name was put there by somebody else.
        keys = {stat.key: _COPY.fullmatch(stat.key) async for stat in target.store.list(_PLACE)}
        for shape in keys.values():
            if shape is None or body_key(SYSTEM, blob := shape[1]) not in keys:
                continue
            try:
                copy = await self._open(target, blob, request_id)
            except (EnvelopeError, StoreDamaged, ObjectMissing, CannotUnwrap, Unreadable) as error:
                log.warning(
                    "catalog copy does not open",
                    target=target.name,
                    blob=blob,
                    reason=type(error).__name__,
                )
                continue
            found.setdefault(copy.envelope.core.context.version, copy)
        until = now() + AHEAD
        return sorted(found.values(), key=lambda c: (c.taken <= until, c.taken), reverse=True)

    async def newest(
        self, target: Target, *, at: datetime | None = None, request_id: str = ""
    ) -> Copy | None:
        """Return the newest copy on a target, or the newest that is not younger than `at`."""
        copies = await self.copies(target, request_id=request_id)
        return next((copy for copy in copies if at is None or copy.taken <= at), None)

    async def restore(self, target: Target, copy: Copy, told: Told = untold) -> Mapping[str, int]:
        """Load a copy into this catalog, which must be empty; return the rows of each table.

        Tells how many bytes of it were read.

        Raises what `Dumps.load` does, StoreErrors, and Unreadable for one that was damaged.
        """
        async with aclosing(_counted(_opened(target.store, copy), told)) as pieces:
            return await self._dumps.load(pieces)

    def over(self, dumps: Dumps) -> "CatalogBackups":
        """Return the same for another catalog."""
        return CatalogBackups(
            dumps,
            self._keys,
            self._targets,
            pool=self._pool,
            background=self._background,
            settings=self._settings,
            keep=self._keep,
        )

    def _named(self, names: Sequence[str]) -> Sequence[Target]:
        known = {target.name: target for target in self._targets}
        if unknown := sorted(set(names) - known.keys()):
            raise Invalid(f"no such target: {', '.join(unknown)}")
        return [known[name] for name in dict.fromkeys(names)] if names else self._targets

    async def _key(self, context: Context, request_id: str) -> DataKey:
        await self._keys.create_tenant(SYSTEM, request_id=request_id)
        contexts = [context.encode(Purpose.DEK)]
        (key,) = await self._keys.data_keys(
            SYSTEM, contexts, reason="catalog backup", request_id=request_id
        )
        if isinstance(key, KeyServiceError):
            raise key
        return key

    async def _write(  # noqa: PLR0917 - all of one copy
        self,
        targets: Sequence[Target],
        blob: str,
        context: Context,
        key: DataKey,
        taken: int,
        told: Told,
    ) -> tuple[Core, dict[str, str]]:
        """Seal a dump to every target; return its core, and why targets failed."""
        roster = Roster(0, tuple(targets))
        replication = Replication(
            lambda: roster,
            pool=self._pool,
            background=self._background,
            settings=FanSettings(patience=inf, degraded=True),
        )
        sealer = SegmentSealer(key.dek, context)
        fan = replication.fan(SYSTEM, blob, _EVERYWHERE)
        try:
            async with fan:
                pump = Pump(self._settings, sealer, fan, declared=None)
                async with aclosing(_compressed(self._dumps, told)) as pieces:
                    await pump.run(pieces, Digests(()))
                core = Core(context=context, created=taken, segments=(sealer.segment,))
                sealed = encode(_envelope(core, key))
                held = await fan.finish(Piece(memoryview(sealed), crc64nvme(sealed)))
        except BaseException:
            self._background.start("discard a copy", fan.clean_up())
            raise
        missed = [target.name for target in targets if target.name not in held]
        return core, dict.fromkeys(missed, "not stored")

    async def _open(self, target: Target, blob: str, request_id: str) -> Copy:
        data = await whole(target.store, envelope_key(SYSTEM, blob))
        envelope = decode(data)
        core = envelope.core
        if (core.context.tenant, core.context.attachment) != (SYSTEM, ATTACHMENT):
            raise Unreadable("something else lies where a copy of the catalog should")
        dek = await unwrap(self._keys, envelope, reason="catalog restore", request_id=request_id)
        if open_attributes(dek, core, envelope.attributes).reference != REFERENCE:
            raise Unreadable("something else lies where a copy of the catalog should")
        return Copy(target.name, blob, moment(core.created), core.plaintext_size, envelope, dek)

    async def _prune(self, target: Target, made: str) -> int:
        """Remove copies beyond the newest `keep`; one that a lock holds stays until a later run.

        What was just made stays, whatever a clock that is wrong now says of its age.
        """
        pruned = 0
        try:
            copies = (await self.copies(target))[self._keep :]
            for copy in (copy for copy in copies if copy.blob != made):
                await remove(target.store, SYSTEM, copy.blob)
                pruned += 1
        except StoreError as error:
            log.warning("catalog copies stay", target=target.name, reason=type(error).__name__)
        return pruned


async def _verify(store: Store, key: str, core: Core) -> None:
    """Read a body back. Raises StoreErrors, StoreDamaged if it is not the core's."""
    check = BodyCheck(core)
    async with aclosing(store.read(key)) as pieces:
        async for piece in pieces:
            check.update(piece)
    check.finish()


def _envelope(core: Core, key: DataKey) -> Envelope:
    attributes = Attributes(
        name=None, content_type="application/gzip", reference=REFERENCE, user={}, digests={}
    )
    return Envelope(
        core=core,
        attributes=seal_attributes(key.dek, core, attributes),
        wraps=(Wrap(kek=key.kek, wrapped=key.wrapped, created=core.created),),
        body=None,
    )


async def _compressed(dumps: Dumps, told: Told) -> AsyncGenerator[bytes]:
    # Envelopes and hashes do not shrink, so the least effort gets nearly everything.
    gzip = zlib.compressobj(level=1, wbits=31)
    async with aclosing(_counted(dumps.dump(), told)) as pieces:
        async for piece in pieces:
            if data := gzip.compress(piece):
                yield data
    yield gzip.flush()


async def _counted(pieces: AsyncGenerator[bytes], told: Told) -> AsyncGenerator[bytes]:
    """Tell how many bytes went through."""
    read = 0
    async with aclosing(pieces):
        async for piece in pieces:
            read += len(piece)
            await told({"read": read})
            yield piece


async def _opened(store: Store, copy: Copy) -> AsyncGenerator[bytes]:
    core = copy.envelope.core
    opener = SegmentOpener(copy.dek, core.context, core.segments[0])
    gzip = zlib.decompressobj(wbits=31)
    try:
        async with aclosing(
            store.read(body_key(SYSTEM, copy.blob), 0, core.ciphertext_size)
        ) as pieces:
            async for piece in pieces:
                async for plain in _inflated(gzip, opener.update(piece)):
                    yield plain
        async for plain in _inflated(gzip, opener.finalize()):
            yield plain
        yield gzip.flush()
    except (EnvelopeError, zlib.error) as error:
        raise Unreadable("the copy of the catalog is damaged") from error
    if not gzip.eof:
        raise Unreadable("the copy of the catalog is cut off")


async def _inflated(gzip: "zlib._Decompress", data: bytes) -> AsyncGenerator[bytes]:
    while data:
        yield gzip.decompress(data, _PIECE)
        data = gzip.unconsumed_tail


__all__ = ["KEEP", "CatalogBackups", "Copy", "Made"]
