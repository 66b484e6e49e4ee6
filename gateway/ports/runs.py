"""Long and periodic work as rows, so that any worker can resume what another one left."""

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

Told = Callable[[Mapping[str, int]], Awaitable[None]]
"""Whoever is told how far some work got, now and then."""


async def untold(progress: Mapping[str, int]) -> None:
    """Stand for nobody who wants to know."""


class RunState(enum.StrEnum):
    """How far a run got."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one kind of work on one subject (a target, a tenant, or nothing).

    `cursor` is where to go on, in the work's own words; `progress` counts what was done so far;
    `outcome` is the report of a run that ended. `holder` tells whose it is now.
    """

    id: str
    kind: str
    subject: str
    holder: str
    state: RunState
    started: datetime
    touched: datetime
    ended: datetime | None = None
    cursor: str = ""
    progress: Mapping[str, int] = field(default_factory=dict)
    outcome: Mapping[str, object] = field(default_factory=dict)


class Runs(Protocol):
    """The rows. Every method is one transaction, by the catalog's clock. Raises CatalogErrors."""

    async def claim(
        self,
        kind: str,
        subject: str,
        *,
        holder: str,
        every: timedelta,
        lease: timedelta,
        retry: timedelta | None = None,
    ) -> Run | None:
        """Take over a run that nobody touched for `lease`, or begin one if the last began `every` ago.

        After one that failed, `retry` is enough where that is shorter. A holder that claims what it
        holds gets it again, as after a lost answer. None when there is nothing to do or somebody is
        at it. At most one run of a kind and subject is running at any time.
        """

    async def save(self, run: Run) -> bool:
        """Keep `cursor` and `progress`, and beat. False when the run is no longer the holder's: stop."""

    async def release(self, run: Run) -> None:
        """Keep `cursor` and `progress`, and let anybody take the run over at once. Idempotent."""

    async def end(self, run: Run, state: RunState, outcome: Mapping[str, object]) -> bool:
        """End a run with its report. False when it is no longer the holder's."""

    async def history(
        self, kind: str | None = None, subject: str | None = None, limit: int = 100
    ) -> Sequence[Run]:
        """Return the newest runs first, running ones included."""

    async def latest(self, state: RunState) -> Sequence[Run]:
        """Return the newest run in a state of each kind and subject, in order of these."""

    async def prune(self, age: timedelta) -> int:
        """Forget ended runs older than `age`, but for the last successful one of each kind and subject."""
