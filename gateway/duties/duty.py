"""Periodic work, and the row by which any worker goes on with what another one left.

Guarantees that whoever works holds the row: it is touched all the time, however long one step takes, and
once it belongs to somebody else, or could not be touched for as long as its lease lasts, the work is cut
off. A duty may be cut off or killed anywhere, so it is written to go on from its last cursor and to do
nothing twice that must be done once. It decides nothing about when a duty is due: that is `worker`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from gateway.errors import CatalogError, DutyFailed, GatewayError, RunLost, first
from gateway.ports import Run, Runs, RunState

OFTEN = 1.0  # seconds between two writes of what `save` is given
LAST_WORD = 5.0  # seconds for the catalog to take how a run ended

log = structlog.get_logger()


class Ledger:
    """What a duty has of its row. `run` holds the cursor and the progress to go on from."""

    def __init__(
        self,
        runs: Runs,
        run: Run,
        *,
        lease: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self._runs = runs
        self._lease = lease.total_seconds()
        self._clock = clock
        self._written = clock()
        self._writing = asyncio.Lock()

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Remember how far the work got; raises RunLost. Cheap enough to be called for every item."""
        self.run = replace(self.run, cursor=cursor, progress=dict(progress))
        if self._clock() - self._written >= OFTEN:
            await self._write()

    async def tell(self, progress: Mapping[str, int]) -> None:
        """Say how far the work got, where there is no cursor to go on from; raises RunLost."""
        await self.save(self.run.cursor, progress)

    async def note(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Remember how far the work got before going on; raises RunLost and CatalogErrors."""
        self.run = replace(self.run, cursor=cursor, progress=dict(progress))
        async with self._writing:
            if not await self._runs.save(self.run):
                raise RunLost("another worker has this run now")
            self._written = self._clock()

    async def keep(self) -> None:
        """Touch the row until cancelled; raises RunLost."""
        while True:
            await asyncio.sleep(self._lease / 4)
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            left = self._lease - (self._clock() - self._written)
            try:
                async with asyncio.timeout(max(left, 0)):
                    held = await self._runs.save(self.run)
            except (CatalogError, TimeoutError) as error:
                log.warning("run not touched", kind=self.run.kind, reason=type(error).__name__)
                held = self._clock() - self._written < self._lease
            else:
                self._written = self._clock()
        if not held:
            raise RunLost("another worker has this run now")


Work = Callable[[Ledger], Awaitable[Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Duty:
    """One kind of periodic work on one subject, such as a target; "" where there is none.

    `work` returns the report of a run. A run begins `every` after the last one began, or `retry` after
    it if that one failed. `at_once` is what is done in place of `work` where somebody waits for it to end.
    One that is `steady` goes on most of the time, within bounds of its own.
    """

    kind: str
    subject: str
    every: timedelta
    work: Work = field(repr=False)
    retry: timedelta = timedelta(minutes=15)
    at_once: Work | None = field(default=None, repr=False)
    steady: bool = False


async def perform(duty: Duty, run: Run, runs: Runs, *, lease: timedelta) -> Run | None:
    """Do the work of a run that was claimed, and record how it ended.

    Returns the run as it ended, or None when it was lost, or cannot be recorded. Cut off from outside
    it gives the row back, so that another worker goes on at once.
    """
    ledger = Ledger(runs, run, lease=lease)
    try:
        state, outcome = await _worked(duty, ledger)
        ended = replace(ledger.run, state=state, outcome=outcome)
        held = await runs.end(ledger.run, state, outcome)
    except asyncio.CancelledError:
        await _release(runs, ledger.run)
        raise
    except (RunLost, CatalogError) as error:
        log.warning("run left", kind=duty.kind, subject=duty.subject, reason=type(error).__name__)
        return None
    return ended if held else None


async def _worked(duty: Duty, ledger: Ledger) -> tuple[RunState, Mapping[str, object]]:
    """Work, while the row is kept; return how it ended. Raises RunLost."""
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(ledger.keep())
            outcome = await duty.work(ledger)
            keeping.cancel()
    except ExceptionGroup as errors:
        cause = first(errors)
    else:
        return RunState.DONE, outcome
    if isinstance(cause, RunLost):
        raise cause
    reason = type(cause).__name__  # a text may hold what a row must not
    expected = isinstance(cause, GatewayError)
    about = {"kind": duty.kind, "subject": duty.subject, "reason": reason}
    log.error("duty failed", **about, exc_info=None if expected else cause)
    found = cause.outcome if isinstance(cause, DutyFailed) else {}
    return RunState.FAILED, {**found, "error": reason}


async def _release(runs: Runs, run: Run) -> None:
    """Give a row back; where that fails, its lease runs out by itself."""
    try:
        async with asyncio.timeout(LAST_WORD):
            await runs.release(run)
    except (CatalogError, TimeoutError) as error:
        log.warning("run not given back", kind=run.kind, reason=type(error).__name__)
