"""Writes envelopes that were rewrapped to the targets that still hold older ones.

Guarantees that an envelope is written only where the catalog says that the replica is stored, only over
one that is there, and only while its lease lasts; that several may share the work, and whoever is killed
costs the time of a lease; and that what was written counts only when the catalog still says the same of
the version afterwards. What may be newer than the catalog's, after that came back from a copy, is left as
it is. A target that does not answer is left alone: what it lacks waits, and costs nothing.
Needs no key. Which KEK an envelope should be under is the catalog's to say.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from awscrt.checksums import crc64nvme

from envelope.envelope import decode
from envelope.errors import EnvelopeError
from gateway.errors import (
    NotFound,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    Unreadable,
    first,
)
from gateway.model import ReplicaState, Version, envelope_key
from gateway.pacing.patience import backoff
from gateway.pacing.rate import Rate
from gateway.ports import (
    Backlog,
    Catalog,
    Finding,
    Piece,
    Replicas,
    Stale,
    Store,
    Told,
    Wraps,
    untold,
)
from gateway.repair.verify import claimed_envelope, stored_envelope, whole
from gateway.targets.quorum import Target

BATCH = 64  # envelopes that are leased at once, each with its inline body
REQUESTS = 2  # to a store, for each
MARGIN = 0.9  # of a lease: the rest is for clocks that do not run alike
ASKED = 10.0  # seconds for a target to say whether it is there

log = structlog.get_logger()


class Watch(Protocol):
    """Who is told what happens, for figures."""

    def pushed(self, target: str) -> None:
        """Tell of an envelope that a target holds as it should be."""

    def push_failed(self, target: str, reason: str) -> None:
        """Tell of one that it does not: `target`, `absent`, `unreadable`, `newer` or `lease`."""

    def backlog(self, backlog: Backlog) -> None:
        """Tell what is left."""


@dataclass(slots=True)
class Pushed:
    """What was done on one target."""

    pushed: int = 0
    overtaken: int = 0  # written, and changed or purged meanwhile
    failed: int = 0
    away: bool = False  # the target did not answer, and the rest waits


class Pushing:
    """The mechanism, over one catalog and its targets. `lease` is in seconds; `parallel` for each target."""

    def __init__(
        self,
        catalog: Catalog,
        wraps: Wraps,
        replicas: Replicas,
        targets: Sequence[Target],
        *,
        rate: Rate,
        parallel: int = 8,
        lease: float = 120.0,
        watch: Watch | None = None,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._catalog = catalog
        self._wraps = wraps
        self._replicas = replicas
        self._targets = {target.name: target for target in targets}
        self._rate = rate
        self._parallel = parallel
        self._lease = lease
        self._watch = watch
        self._told = told

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets that are written to."""
        return tuple(self._targets)

    async def shift(self, target: str, told: Told = untold) -> Mapping[str, object]:
        """Write what is due on one target, whoever's it is; return what was done. Raises CatalogErrors."""
        tally = Pushed()
        await self._tell(target)
        await self.push(target, tally, told=told)
        if tally.pushed or tally.failed:
            await self._tell(target)
        return asdict(tally)

    async def push(
        self, target: str, tally: Pushed, *, tenant: str | None = None, told: Told = untold
    ) -> None:
        """Write what is due on one target, of one tenant or of all, until nothing is.

        Adds up in `tally` what was done, and tells it. Raises CatalogErrors.
        """
        tally.away = False
        while not tally.away:
            ends = asyncio.get_running_loop().time() + self._lease * MARGIN
            batch = await self._wraps.claim_stale(
                tenant=tenant,
                targets=[target],
                lease=timedelta(seconds=self._lease),
                limit=BATCH,
            )
            if not batch:
                return
            await self._batch(batch, ends, tally)
            await told({"pushed": tally.pushed, "failed": tally.failed})

    async def _tell(self, target: str) -> None:
        if self._watch is not None:
            self._watch.backlog(await self._wraps.backlog(target))

    async def _batch(self, batch: Sequence[Stale], ends: float, tally: Pushed) -> None:
        waiting = list(reversed(batch))

        async def lane() -> None:
            while waiting and not tally.away:
                await self._write(waiting.pop(), ends, tally)

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(self._parallel, len(batch))):
                    lanes.create_task(lane())
        except BaseExceptionGroup as error:
            raise first(error) from None
        finally:
            if waiting:
                await self._wraps.release_stale(waiting)

    async def _write(self, stale: Stale, ends: float, tally: Pushed) -> None:
        version, store = stale.version, self._targets[stale.target].store
        try:
            sealed = stored_envelope(version)
        except Unreadable:
            await self._failed(stale, "unreadable", tally)
            return
        await self._rate.take(0, REQUESTS + stale.unsure)
        key = envelope_key(version.tenant, version.blob)
        try:
            async with asyncio.timeout_at(ends):
                if stale.unsure and await _newer(store, version):
                    await self._failed(stale, "newer", tally)
                    return
                await store.replace(key, Piece(memoryview(sealed), crc64nvme(sealed)))
        except TimeoutError:
            # It is not ours any more, and may be written later than what somebody else writes.
            await self._failed(stale, "lease", tally)
        except ObjectMissing:
            missing = ReplicaState.MISSING
            absent = Finding(version.id, stale.target, missing, "absent", version.blob)
            await self._replicas.report([absent])
            await self._failed(stale, "absent", tally)
        except StoreError as error:
            tally.away = not isinstance(error, StoreUnavailable) or not await self._answers(stale)
            if tally.away:
                log.warning("target is left alone", target=stale.target, error=type(error).__name__)
                self._count(stale, "target", tally)
                await self._wraps.release_stale([stale])
            else:
                await self._failed(stale, "target", tally)
        else:
            await self._written(stale, tally)

    async def _written(self, stale: Stale, tally: Pushed) -> None:
        version = stale.version
        if await self._wraps.pushed(stale, version.kek):
            tally.pushed += 1
            self._told(1)
            if self._watch is not None:
                self._watch.pushed(stale.target)
            return
        tally.overtaken += 1
        try:
            await self._catalog.by_version(version.tenant, version.id)
        except NotFound:
            # It is being purged, and was perhaps removed here before it was written.
            store = self._targets[stale.target].store
            with suppress(StoreError):
                if await self._purged(stale):
                    await store.delete(envelope_key(version.tenant, version.blob))

    async def _purged(self, stale: Stale) -> bool:
        """Tell whether the purger had a version, as `doubts` does. Raises StoreErrors.

        One without a row that others hold was not purged: the catalog is another or an older one now.
        """
        version = stale.version
        if await self._replicas.version(version.id) is not None:
            return True
        for name, target in self._targets.items():
            if name != stale.target:
                with suppress(ObjectMissing):
                    await target.store.stat(envelope_key(version.tenant, version.blob))
                    return False
        return True

    async def _failed(self, stale: Stale, reason: str, tally: Pushed) -> None:
        self._count(stale, reason, tally)
        await self._wraps.failed_push(stale, timedelta(seconds=backoff(stale.tries)))

    def _count(self, stale: Stale, reason: str, tally: Pushed) -> None:
        tally.failed += 1
        log.warning("push failed", version=stale.version.id, target=stale.target, reason=reason)
        if self._watch is not None:
            self._watch.push_failed(stale.target, reason)

    async def _answers(self, stale: Stale) -> bool:
        try:
            async with asyncio.timeout(ASKED):
                await self._targets[stale.target].store.check()
        except (StoreError, TimeoutError):
            return False
        return True


async def _newer(store: Store, version: Version) -> bool:
    """Tell whether a copy was rewrapped later than the catalog's envelope. Raises StoreErrors."""
    try:
        found = decode(await whole(store, envelope_key(version.tenant, version.blob)))
    except EnvelopeError:
        return False
    known = claimed_envelope(version)
    return found.newest.kek != version.kek and found.newest.created > known.newest.created
