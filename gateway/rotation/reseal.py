"""Seals one version's content again, under a new data key, while it is read and may be purged.

Guarantees that a version is switched to its new blob only after every byte of the old one was authenticated,
a quorum of the targets holds the new one, and one target's copy of it was read back and opened to the same
content; that the switch happens only where the version still has the blob that was read, so that of two
who reseal at once one is in vain; and that whatever fails, and wherever it is killed, the version is whole
and readable under the one blob or the other. Id, creation, attributes and digests stay. The old blob is not
removed: readers that hold it go on, and the catalog has it purged after the tenant's trash time. What a
reseal wrote in vain is removed, or is left to the catalog, which was told before the first byte.
"""

import asyncio
import enum
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import time_ns
from typing import Final

import structlog
from awscrt.checksums import crc64nvme

from envelope.core import Core
from envelope.envelope import Envelope, Wrap, encode, encode_bare, seal_attributes
from envelope.segment import SegmentSealer
from gateway.attachments.downloads import Downloads
from gateway.attachments.opened import Opened, envelope_of
from gateway.errors import CatalogConflict, CatalogUnavailable, NotFound, StoreUnavailable, first
from gateway.flow.digests import INTERNAL, SUPPORTED, Digests
from gateway.flow.pump import Pump, PumpSettings
from gateway.flow.replication import Fan, Replication
from gateway.keys.data_keys import KeyService, data_key
from gateway.model import Found, ReplicaState, Version, microseconds, new_id
from gateway.pacing.background import Background
from gateway.pacing.rate import Rate
from gateway.ports import Catalog, Piece, Wraps
from gateway.repair.opening import Locked, Opening
from gateway.targets.placing import Placing, Roster
from gateway.targets.policies import Policies
from gateway.targets.quorum import QuorumLost
from keyservice.wire import DataKey

log = structlog.get_logger()
REASON: Final = "reseal"  # stands on the key service's record
BEAT: Final = 600.0  # seconds between two words that a blob is still being written
ASKED: Final = 5  # times that a switch is asked for before its outcome counts as unknown


class Outcome(enum.StrEnum):
    """What became of one version."""

    RESEALED = "resealed"
    RECENT = "recent"  # it is under a data key that is new enough
    GONE = "gone"  # purged meanwhile, or being purged
    OVERTAKEN = "overtaken"  # somebody else sealed it again meanwhile


class Overtaken(CatalogConflict):
    """The version has another blob by now, or is being purged: what was written is nobody's."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A new blob that some targets hold whole: the version with it, and a digest of its content."""

    version: Version = field(repr=False)
    stored: frozenset[str]
    digest: bytes = field(repr=False)


class Reseal:
    """The use case, over one catalog, one key service and one set of targets.

    `rate` is how many bytes a second are read from the targets: each byte of a body twice.
    """

    def __init__(
        self,
        catalog: Catalog,
        wraps: Wraps,
        keys: KeyService,
        downloads: Downloads,
        replication: Replication,
        *,
        policies: Policies,
        placing: Placing,
        background: Background,
        settings: PumpSettings,
        rate: Rate,
        beat: float = BEAT,
    ) -> None:
        self._catalog = catalog
        self._wraps = wraps
        self._keys = keys
        self._downloads = downloads
        self._replication = replication
        self._opening = Opening(keys, reason=REASON)
        self._policies = policies
        self._placing = placing
        self._background = background
        self._settings = settings
        self._rate = rate
        self._beat = beat

    async def version(self, tenant: str, version: str, *, before: datetime) -> Outcome:
        """Reseal one version, in the trash or not, if its data key was made before that time.

        Raises Unreadable when no target gives all of it authentic, QuorumLost and other StoreErrors when too
        few targets take it or what was written does not open, KeyServiceErrors and CatalogErrors: after
        any of them it may be tried again.
        """
        try:
            found = await self._catalog.by_version(tenant, version)
        except NotFound:
            return Outcome.GONE
        if envelope_of(found).core.sealed >= microseconds(before):
            return Outcome.RECENT
        request = new_id()
        opened = await self._downloads.open(found, request_id=request, reason=REASON)
        context = opened.envelope.core.context
        key = await data_key(self._keys, context, request_id=request, reason=REASON)
        blob = new_id()
        try:
            await self._intend(found.version, blob, key)
            await self._replace(opened, key, blob)
        except Overtaken:
            return await self._overtaken(found)
        log.info("resealed", version=version, tenant=tenant, blob=blob)
        return Outcome.RESEALED

    async def _overtaken(self, found: Found) -> Outcome:
        """Tell whether the version is gone, or has been sealed again by somebody else."""
        try:
            now = await self._catalog.by_version(found.version.tenant, found.version.id)
        except NotFound:
            return Outcome.GONE
        if now.version.blob == found.version.blob:
            # Its KEK is being retired, or a clock that jumped made it look abandoned.
            raise CatalogConflict("the catalog refused this reseal: try again", retry_after=1.0)
        return Outcome.OVERTAKEN

    async def _intend(self, version: Version, blob: str, key: DataKey) -> None:
        if not await self._wraps.intend(version, blob, key.kek):
            raise Overtaken("the version changed meanwhile")

    async def _keep(self, version: Version, blob: str, key: DataKey) -> None:
        """Say again and again that the blob is still being written. Raises Overtaken once it is in vain."""
        while True:
            await asyncio.sleep(self._beat)
            try:
                await self._intend(version, blob, key)
            except CatalogUnavailable as error:
                log.warning("reseal not kept", blob=blob, reason=type(error).__name__)

    async def _replace(self, opened: Opened, key: DataKey, blob: str) -> None:
        """Write the new blob, verify it, and switch to it; remove it when that cannot be."""
        old = opened.found.version
        fan = self._replication.fan(old.tenant, blob, await self._policies.of(old.tenant))
        try:
            async with asyncio.TaskGroup() as group, fan:
                keeping = group.create_task(self._keep(old, blob, key))
                made = await self._write(opened, key, blob, fan)
                roster = await self._judged(fan, made.stored)
                await self._verify(made, roster)
                await self._switch(made, old.blob, roster)
                keeping.cancel()
        except BaseException as error:
            self._background.start("discard a reseal", self._discard(fan, blob))
            if isinstance(error, BaseExceptionGroup):
                raise first(error) from None
            raise

    async def _write(self, opened: Opened, key: DataKey, blob: str, fan: Fan) -> _Made:
        """Stream the content from the old blob into the new one, on all targets."""
        old, core = opened.found.version, opened.envelope.core
        sealed_with = opened.attributes.digests
        known = {n: value for n, value in sealed_with.items() if n in {*SUPPORTED, INTERNAL}}
        sealer, digests = SegmentSealer(key.dek, core.context), Digests({INTERNAL, *known})
        # It was taken once, whatever the limit is now.
        settings = replace(self._settings, max_size=max(self._settings.max_size, opened.size))
        pump = Pump(settings, sealer, fan, declared=opened.size)
        async with aclosing(self._content(opened)) as content:
            inline = await pump.run(content, digests)
        digests.verify(known)
        at = max(time_ns() // 1000, core.sealed + 1)
        again = Core(core.context, core.created, (sealer.segment,), at)
        envelope = Envelope(
            core=again,
            attributes=seal_attributes(key.dek, again, opened.attributes),
            wraps=(Wrap(kek=key.kek, wrapped=key.wrapped, created=at),),
            body=inline,
        )
        sealed = encode(envelope)
        stored = await fan.finish(Piece(memoryview(sealed), crc64nvme(sealed)))
        version = replace(
            old,
            blob=blob,
            body_size=fan.body_size,
            envelope=sealed if inline is None else encode_bare(envelope),
            kek=key.kek,
            inline=inline,
        )
        return _Made(version, stored, digests.values()[INTERNAL])

    async def _content(self, opened: Opened) -> AsyncGenerator[bytes]:
        async with aclosing(self._downloads.read(opened, 0, opened.size)) as pieces:
            async for piece in pieces:
                await self._rate.take(len(piece))
                yield piece

    async def _judged(self, fan: Fan, stored: frozenset[str]) -> Roster:
        """Return the roster of the moment. Raises QuorumLost if too few of its targets hold the blob.

        One target is never enough where the policy says more: unlike an upload this can wait.
        """
        roster = await self._placing.refresh()
        if not fan.quorum.satisfied(roster.targets, stored):
            raise QuorumLost(f"too few targets hold it for the policy {fan.quorum}")
        return roster

    async def _verify(self, made: _Made, roster: Roster) -> None:
        """Open what one target holds. Raises StoreErrors, and KeyServiceErrors when it has no key now."""
        expected = {INTERNAL: made.digest}
        away: StoreUnavailable | None = None
        for target in roster.targets:
            if target.name not in made.stored:
                continue
            try:
                await self._opening.check(target.store, made.version, self._rate, expected)
            except StoreUnavailable as error:
                away = error
            except Locked as error:
                raise error.__cause__ or error from None
            else:
                return
        raise away or StoreUnavailable("no target gives back what it took")

    async def _switch(self, made: _Made, old: str, roster: Roster) -> None:
        """Make it the version's blob. Raises Overtaken, or CatalogUnavailable when that is not known."""
        states = {
            target.name: ReplicaState.STORED if target.name in made.stored else ReplicaState.MISSING
            for target in roster.targets
        }
        for asked in range(1, ASKED + 1):
            try:
                switched = await self._wraps.switch(made.version, old, states)
            except CatalogUnavailable:
                if asked == ASKED:
                    raise
                await asyncio.sleep(asked / ASKED)
            else:
                break
        if not switched:
            raise Overtaken("the version changed meanwhile")

    async def _discard(self, fan: Fan, blob: str) -> None:
        """Remove what was written in vain; what cannot be removed now is left to the purger.

        The catalog gives the blob up first: one that was switched to after all, the answer lost or the
        wait for it cancelled, keeps every byte.
        """
        if await self._wraps.abandon(blob):
            await fan.clean_up()
            await self._wraps.leftover_gone(blob)
