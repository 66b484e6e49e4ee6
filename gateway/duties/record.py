"""Work that a person asked for, put on record like the work of a worker.

Guarantees that no two do the same kind of work on the same subject at once, whoever began it, and that
what it came to is kept: done with its report, or failed with its reason. Work is resumable where it keeps how
far it got in the `ledger` of its entry, and reads that first: the row may be of somebody who was killed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from gateway.duties.duty import Ledger
from gateway.errors import CatalogConflict, first
from gateway.model import new_id
from gateway.ports import Run, Runs, RunState

LEASE: Final = timedelta(seconds=60)


class AlreadyRunning(CatalogConflict):
    """Somebody else does this work on this subject right now."""


async def take_over(
    runs: Runs, kind: str, subject: str, *, lease: timedelta, patience: float, refusal: str
) -> Run:
    """Begin a run, or take it over as soon as whoever had it is silent for the lease.

    Waits for `patience` leases, and asks once more when they are over, however late the catalog answered
    before. Raises AlreadyRunning, with `refusal`, and CatalogErrors.
    """
    holder, seconds = new_id(), lease.total_seconds()
    until = time.monotonic() + patience * seconds
    while True:
        last = time.monotonic() >= until
        run = await runs.claim(kind, subject, holder=holder, every=timedelta(), lease=lease)
        if run is not None:
            return run
        if last:
            raise AlreadyRunning(refusal)
        await asyncio.sleep(seconds / 10)


@dataclass(slots=True)
class Entry:
    """What the work came to: a report, and whether it is a good one. `ledger` is what it has of its row."""

    ledger: Ledger
    outcome: Mapping[str, object] = field(default_factory=dict)
    good: bool = True


@asynccontextmanager
async def on_record(
    runs: Runs, kind: str, subject: str, *, lease: timedelta = LEASE
) -> AsyncIterator[Entry]:
    """Hold the run of this work while the block lasts.

    Raises AlreadyRunning when somebody else has it, RunLost when somebody takes it, and CatalogErrors.
    """
    run = await runs.claim(kind, subject, holder=new_id(), every=timedelta(), lease=lease)
    if run is None:
        raise AlreadyRunning(f"somebody is at a {kind} already: try again when it is done")
    ledger = Ledger(runs, run, lease=lease)
    entry = Entry(ledger)
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(ledger.keep())
            yield entry
            keeping.cancel()
    except BaseExceptionGroup as error:
        cause = first(error)
        await runs.end(ledger.run, RunState.FAILED, {"error": type(cause).__name__})
        raise cause from None
    state = RunState.DONE if entry.good else RunState.FAILED
    await runs.end(ledger.run, state, entry.outcome)
