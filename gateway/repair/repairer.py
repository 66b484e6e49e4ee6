"""Brings missing and damaged replicas back from any good one, ciphertext to ciphertext, without keys.

Guarantees that nothing is touched unless a good copy is at hand (where there is none, it raises an alarm
and leaves everything as it is); that several workers share the work without doing any twice; and that it
may be killed anywhere: what it held is due again when its lease is over. A target that does not answer is
left alone for a while and asked before anything else is sent to it, so an outage costs the gaps nothing;
a gap that fails by itself is tried again later and later, within an hour. It decides nothing about which
replicas there should be.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

import structlog

from gateway.errors import (
    CatalogError,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unreadable,
    first,
)
from gateway.model import ReplicaState
from gateway.pacing.patience import Rest, backoff
from gateway.ports import Finding, Gap, Replicas
from gateway.repair.claims import Claims, Lease, LeaseLost
from gateway.repair.copying import Copier
from gateway.repair.doubts import Doubts
from gateway.repair.verify import UNOPENED
from gateway.targets.quorum import Target

PAGE = 100  # versions that are adopted at once: uploads wait for them
SMALL = 4 * 1024 * 1024  # bytes of a body that is copied without looking what is there
ASKED = 10.0  # seconds for a target to say that it is back
PATIENT = 3  # failures of a target that are not held against the gap
BEAT = 5.0  # seconds between two notes of how far a shift is

log = structlog.get_logger()


class Ledger(Protocol):
    """Where a shift keeps how far it is."""

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Keep it, and tell that the work goes on. Raises when it is no longer ours."""


class Watch(Protocol):
    """Who is told what happens, for figures."""

    def copied(self, target: str, size: int) -> None:
        """Tell of a replica that is whole again."""

    def repair_failed(self, target: str, reason: str) -> None:
        """Tell of one that is not: `target`, `sources`, `no-good-copy` or `lease`."""


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """Times in seconds. `parallel` gaps at once a target.

    A run of the periodic work looks for gaps every `pause`, for as long as `shift`, and for versions
    that a target has no row of every `adopt_every`.
    """

    parallel: int = 8
    lease: float = 120.0
    pause: float = 2.0
    shift: float = 900.0
    adopt_every: float = 3600.0


@dataclass(slots=True)
class Tally:
    """What was done on one target. `whole` of the filled needed no copy; `bytes` are of all bodies."""

    filled: int = 0
    whole: int = 0
    bytes: int = 0
    failed: int = 0
    unreadable: int = 0  # of the failed: no target has a good copy
    adopted: int = 0


class Repairer:
    """The use case, over what the catalog knows of replicas. `targets` are in order of preference."""

    def __init__(
        self,
        replicas: Replicas,
        copier: Copier,
        targets: Sequence[Target],
        *,
        watch: Watch | None = None,
        settings: RepairSettings = RepairSettings(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._copier = copier
        self._targets = {target.name: target for target in targets}
        self._watch = watch
        self._settings = settings
        self._clock = clock
        self._rests = {name: Rest() for name in self._targets}
        self._adopted: dict[str, float] = {}
        self._doubts = Doubts(replicas, copier, clock)

    async def adopt(self, target: str, tally: Tally | None = None) -> int:
        """Record as missing what a target has no row of, all of it; return how many versions."""
        count = 0
        while page := await self._replicas.adopt(target, PAGE):
            count += page
            if tally is not None:
                tally.adopted += page
        if count:
            log.info("target is back-filled", target=target, versions=count)
        return count

    async def repair(
        self, target: str, *, tenant: str | None = None, tally: Tally | None = None
    ) -> Tally:
        """Fill what is due on one target, until nothing is. Raises CatalogErrors.

        What is counted is added to `tally` as it goes on.
        """
        tally = Tally() if tally is None else tally
        if not await self._answers(target):
            return tally
        parallel = self._settings.parallel
        claims = Claims(
            self._replicas, target, lease=self._settings.lease, batch=2 * parallel, tenant=tenant
        )
        try:
            async with claims, asyncio.TaskGroup() as lanes:
                for _ in range(parallel):
                    lanes.create_task(self._lane(target, claims, tally))
            await self._doubts.settle()
        except ExceptionGroup as group:
            raise first(group) from None
        return tally

    async def once(self, target: str, ledger: Ledger) -> Mapping[str, object]:
        """Adopt and repair what is due on one target; return what was done. Raises as `shift`."""
        return await self._work(target, ledger, self._clock())

    async def shift(self, target: str, ledger: Ledger) -> Mapping[str, object]:
        """Repair one target for a while, as gaps come; return what was done.

        Raises CatalogErrors, and what the ledger raises when the run is no longer ours.
        """
        return await self._work(target, ledger, self._clock() + self._settings.shift)

    async def _work(self, target: str, ledger: Ledger, ends: float) -> Mapping[str, object]:
        tally = Tally()

        async def beat() -> None:
            while True:
                await ledger.save("", asdict(tally))
                await asyncio.sleep(BEAT)

        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(beat())
                while True:
                    await self._adopt_now_and_then(target, tally)
                    await self.repair(target, tally=tally)
                    if self._clock() >= ends:
                        break
                    await asyncio.sleep(self._settings.pause)
                beating.cancel()
        except ExceptionGroup as group:
            raise first(group) from None
        return asdict(tally)

    async def _adopt_now_and_then(self, target: str, tally: Tally) -> None:
        last = self._adopted.get(target)
        if last is None or self._clock() - last >= self._settings.adopt_every:
            began = self._clock()
            await self.adopt(target, tally)
            self._adopted[target] = (
                began  # only now: what the catalog did not take is tried next time
            )

    def resting(self, target: str) -> bool:
        """Tell whether a target is left alone now, or has not proved since that it works again."""
        return bool(self._rests[target].failures)

    async def _lane(self, target: str, claims: Claims, tally: Tally) -> None:
        while not self._rests[target].resting(self._clock()) and (lease := await claims.next()):
            await self._fill(claims, lease, tally)

    async def _fill(self, claims: Claims, lease: Lease, tally: Tally) -> None:
        gap, findings = lease.gap, list[Finding]()
        try:
            async with lease.held():
                filled = await self._copier.fill(
                    gap.version,
                    gap.target,
                    self._sources(gap),
                    replace=True,
                    findings=findings,
                    # Looking first costs more than a small copy that is refused.
                    blank=gap.state is ReplicaState.MISSING
                    and not gap.tries
                    and gap.version.body_size <= SMALL,
                    unopened=gap.reason == UNOPENED,
                )
        except LeaseLost:
            claims.drop(lease)
            self._failed(gap, "lease", tally)
            await self._lost(gap)
        except Unreadable as error:
            hopeless = error.retry_after is None
            tally.unreadable += hopeless
            self._failed(gap, "no-good-copy" if hopeless else "sources", tally)
            await claims.failed(lease, backoff(gap.tries))
        except StoreError as error:
            self._failed(gap, "target", tally, error)
            if isinstance(error, StoreUnavailable | StoreDenied | StoreFull):
                # A gap that fails again and again may be what is wrong, and not the whole target.
                rest, tries = self._rests[gap.target].begin(self._clock()), gap.tries - PATIENT
                retry = max(rest, backoff(tries)) if tries >= 0 else rest
            else:
                retry = backoff(gap.tries)
            if not await claims.failed(lease, retry):
                await self._lost(gap)
        else:
            self._rests[gap.target].end()
            if await claims.filled(lease, filled.kek):
                self._filled(gap, tally, filled.source)
            else:
                self._doubts.add(gap)
        if told := [each for each in findings if each.target in gap.good]:
            await self._replicas.report(told)

    async def _lost(self, gap: Gap) -> None:
        """See to what may have been done to a replica that was somebody else's, or nobody's any more."""
        self._doubts.add(gap)
        # It may have been removed, while somebody else found it whole before.
        with suppress(CatalogError):  # it is a gap still where the catalog was away
            cut = Finding(
                gap.version.id, gap.target, ReplicaState.MISSING, "lease", gap.version.blob
            )
            await self._replicas.report([cut])

    def _sources(self, gap: Gap) -> list[str]:
        """Return the targets to copy from, those first that should hold it; others may, too."""
        others = [name for name in self._targets if name != gap.target]
        return sorted(others, key=lambda name: name not in gap.good)

    def _filled(self, gap: Gap, tally: Tally, source: str) -> None:
        tally.filled += 1
        tally.whole += source == gap.target
        tally.bytes += gap.version.body_size
        log.info("replica repaired", version=gap.version.id, target=gap.target, state=gap.state)
        if self._watch is not None:
            copied = source in self._targets and source != gap.target
            self._watch.copied(gap.target, gap.version.body_size if copied else 0)

    def _failed(self, gap: Gap, reason: str, tally: Tally, error: StoreError | None = None) -> None:
        tally.failed += 1
        tell = log.error if reason == "no-good-copy" else log.warning
        tell(
            "repair failed",
            version=gap.version.id,
            target=gap.target,
            reason=reason,
            error=type(error).__name__ if error else None,
        )
        if self._watch is not None:
            self._watch.repair_failed(gap.target, reason)

    async def _answers(self, target: str) -> bool:
        """Tell whether a target that rested is back; one that did not rest is not asked."""
        rest = self._rests[target]
        if not rest.failures:
            return True
        if rest.resting(self._clock()):
            return False
        try:
            async with asyncio.timeout(ASKED):
                await self._targets[target].store.check()
        except (StoreError, TimeoutError):
            rest.begin(self._clock())
            return False
        return True
