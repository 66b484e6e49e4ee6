"""Brings missing and damaged replicas back from any good one, ciphertext to ciphertext, without keys.

Guarantees that nothing is touched unless a good copy is at hand (where there is none, it raises an alarm
and leaves everything as it is); that several workers share the work without doing any twice; and that it
may be killed anywhere: what it held is due again when its lease is over. A target that does not answer is
left alone for a while and asked before anything else is sent to it, so an outage costs the gaps nothing;
a gap that fails by itself is tried again later and later, within an hour. It decides nothing about which
replicas there should be.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.claims import Claims, Lease, LeaseLost
from gateway.copying import Copier
from gateway.errors import (
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unreadable,
    first,
)
from gateway.model import Version
from gateway.ports import Finding, Gap, Replicas
from gateway.quorum import Target

PAGE = 500  # versions that are adopted at once
LONGEST = 3600.0  # seconds before a gap is tried again
FIRST = 15.0
REST = 60.0  # seconds at most that a target is left alone
ASKED = 10.0  # seconds for a target to say that it is back
DOUBTS = 1000  # replicas that may have outlived their version
DOUBTFUL = 3600.0  # seconds for which it is looked whether they did
SETTLE = 30.0  # and every how many

log = structlog.get_logger()


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

    parallel: int = 4
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
        self._rests = {name: _Rest() for name in self._targets}
        self._adopted: dict[str, float] = {}
        self._doubts: deque[_Doubt] = deque(maxlen=DOUBTS)
        self._settled = clock()

    async def adopt(self, target: str, tally: Tally | None = None) -> int:
        """Record as missing what a target has no row of, all of it; return how many versions."""
        count, page = 0, PAGE
        while page == PAGE:
            page = await self._replicas.adopt(target, PAGE)
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
            await self._settle_doubts()
        except ExceptionGroup as group:
            raise first(group) from None
        return tally

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
                source = await self._copier.fill(
                    gap.version, gap.target, self._sources(gap), replace=True, findings=findings
                )
        except LeaseLost:
            claims.drop(lease)
            self._doubt(gap)
            self._failed(gap, "lease", tally)
        except Unreadable as error:
            hopeless = error.retry_after is None
            tally.unreadable += hopeless
            self._failed(gap, "no-good-copy" if hopeless else "sources", tally)
            await claims.failed(lease, backoff(gap.tries))
        except StoreError as error:
            self._failed(gap, "target", tally, error)
            if isinstance(error, StoreUnavailable | StoreDenied | StoreFull):
                await claims.failed(lease, self._rests[gap.target].begin(self._clock()))
            else:
                await claims.failed(lease, backoff(gap.tries))
        else:
            self._rests[gap.target].end()
            if await claims.filled(lease):
                self._filled(gap, tally, whole=source == gap.target)
            else:
                self._doubt(gap)
        if told := [each for each in findings if each.target in gap.good]:
            await self._replicas.report(told)

    def _sources(self, gap: Gap) -> list[str]:
        """Return the targets to copy from, those first that should hold it; others may, too."""
        others = [name for name in self._targets if name != gap.target]
        return sorted(others, key=lambda name: name not in gap.good)

    def _filled(self, gap: Gap, tally: Tally, *, whole: bool) -> None:
        tally.filled += 1
        tally.whole += whole
        tally.bytes += gap.version.body_size
        log.info("replica repaired", version=gap.version.id, target=gap.target, state=gap.state)
        if self._watch is not None:
            self._watch.copied(gap.target, 0 if whole else gap.version.body_size)

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

    def _doubt(self, gap: Gap) -> None:
        self._doubts.append(_Doubt(gap.version, gap.target, self._clock() + DOUBTFUL))

    async def _settle_doubts(self) -> None:
        """Remove what was written of versions that were purged meanwhile."""
        if self._clock() - self._settled < SETTLE:
            return
        self._settled = self._clock()
        for _ in range(len(self._doubts)):
            doubt = self._doubts.popleft()
            gone = await self._replicas.version(doubt.version.id) is None
            if gone:
                try:
                    await self._copier.clear(doubt.version, doubt.target)
                except StoreError:
                    gone = False
            if not gone and self._clock() < doubt.until:
                self._doubts.append(doubt)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A replica that may have been written after its version was purged; looked at until `until`."""

    version: Version
    target: str
    until: float


class _Rest:
    """How long a target that failed is left alone: longer each time, until it worked once."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    def resting(self, at: float) -> bool:
        """Tell whether it is left alone now."""
        return bool(self.failures) and at < self._until

    def begin(self, at: float) -> float:
        """Leave it alone from now on; return for how many seconds. Failures at once count once."""
        if not self.resting(at):
            self.failures += 1
            self._until = at + jittered(min(REST, 2.0 ** min(self.failures - 1, 10)))
        return self._until - at

    def end(self) -> None:
        """Note that it works."""
        self.failures = 0


def backoff(tries: int) -> float:
    """Return the seconds until a gap that was tried so often before is tried again."""
    return jittered(min(LONGEST, FIRST * 2.0 ** min(tries, 20)))


def jittered(seconds: float) -> float:
    """Return a bit less, at random, so that what failed together does not come back together."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - guards no secret
