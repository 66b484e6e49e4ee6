"""Does the duties that are due, as one of any number of workers that share them.

Guarantees that at most `at_once` run here at a time beside those that are steady, in the order in which
they came due; that one which fails is recorded and keeps no other from its turn; that what a worker which
died held is taken over, where it stopped, once its lease is over; and that stopping gives everything back.
It knows nothing of what the duties do.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog

from gateway.duties.duty import Duty, perform
from gateway.errors import CatalogError
from gateway.ports import Run, Runs, RunState

log = structlog.get_logger()
_NOW = timedelta()
REFRESH = 60.0  # seconds between two looks at what all workers did
SHORTEST, LONGEST = 0.2, 30.0  # seconds between two looks for whether a duty is due


class Watch(Protocol):
    """Who is told, for figures."""

    def began(self, duty: Duty) -> None:
        """Tell that a run began, or goes on, in this process."""

    def ended(self, duty: Duty, run: Run | None, seconds: float) -> None:
        """Tell how it ended; None when it was given back or lost."""

    def last(self, run: Run) -> None:
        """Tell of the last run of a kind and subject that ended well, whichever worker's."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of one duty when it was asked for: None where another worker is at it, or got it."""

    duty: Duty
    run: Run | None


class Worker:
    """The duties of one process. `holder` names it among all workers."""

    def __init__(
        self,
        runs: Runs,
        duties: Sequence[Duty],
        *,
        holder: str,
        lease: timedelta = timedelta(seconds=60),
        at_once: int = 4,
        keep: timedelta = timedelta(days=90),
        watch: Watch | None = None,
    ) -> None:
        self._runs = runs
        self._duties = tuple(duties)
        self._holder = holder
        self._lease = lease
        self._turns = asyncio.Semaphore(at_once)
        self._keep = keep
        self._watch = watch
        self._failing = False

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_around())
            for duty in self._duties:
                group.create_task(self._attend(duty))

    async def once(self, kind: str | None = None) -> Sequence[Turn]:
        """Do every duty, or those of one kind, once and now, due or not. Raises CatalogErrors."""
        chosen = [duty for duty in self._duties if kind in (None, duty.kind)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._turn(_briefly(duty), _NOW)) for duty in chosen]
        except* CatalogError as errors:
            raise errors.exceptions[0] from None
        return [Turn(duty, task.result()) for duty, task in zip(chosen, tasks, strict=True)]

    async def _attend(self, duty: Duty) -> None:
        """Do a duty whenever it is due."""
        longest = min(self._lease.total_seconds() / 2, LONGEST)
        pause = min(max(duty.every.total_seconds() / 10, SHORTEST), longest)
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - guards no secret
            try:
                await self._turn(duty, duty.every)
            except CatalogError as error:
                self._tell(error)
            else:
                self._failing = False

    async def _turn(self, duty: Duty, every: timedelta) -> Run | None:
        async with nullcontext() if duty.steady else self._turns:
            run = await self._runs.claim(
                duty.kind,
                duty.subject,
                holder=self._holder,
                every=every,
                lease=self._lease,
                retry=duty.retry,
            )
            return None if run is None else await self._perform(duty, run)

    async def _perform(self, duty: Duty, run: Run) -> Run | None:
        began, ended = time.monotonic(), None
        if self._watch is not None:
            self._watch.began(duty)
        try:
            ended = await perform(duty, run, self._runs, lease=self._lease)
        finally:
            if self._watch is not None:
                self._watch.ended(duty, ended, time.monotonic() - began)
        return ended

    async def _look_around(self) -> None:
        """See now and then what all workers did, and forget what is long past."""
        while True:
            with suppress(CatalogError):
                for run in await self._runs.latest(RunState.DONE):
                    if self._watch is not None:
                        self._watch.last(run)
                await self._runs.prune(self._keep)
            await asyncio.sleep(REFRESH * random.uniform(0.5, 1.0))  # noqa: S311 - as above

    def _tell(self, error: CatalogError) -> None:
        """Log an outage once, not for every duty."""
        if not self._failing:
            log.warning("no duties without the catalog", reason=type(error).__name__)
        self._failing = True


def _briefly(duty: Duty) -> Duty:
    return duty if duty.at_once is None else replace(duty, work=duty.at_once, steady=False)
