"""Long work that a person asked for, as a row: interrupted, it goes on where it was when asked for again.

Guarantees that no two do the same kind of work on the same subject at once, and that however the block
ends but well, the row keeps how far it got for whoever comes next: at once where this process could still
say so, else when its lease is over. Periodic work has `duties` for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from gateway.duties.duty import Ledger
from gateway.duties.record import take_over
from gateway.errors import CatalogError, first
from gateway.ports import Runs, RunState

LEASE: Final = timedelta(seconds=10)


@asynccontextmanager
async def resumed(
    runs: Runs, kind: str, subject: str, *, lease: timedelta = LEASE
) -> AsyncGenerator[Ledger]:
    """Hold the row while the block lasts. Raises AlreadyRunning, RunLost and CatalogErrors."""
    refusal = f"{kind} is at it already: try again when it is done"
    run = await take_over(runs, kind, subject, lease=lease, patience=1.5, refusal=refusal)
    ledger, ended = Ledger(runs, run, lease=lease), False
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(ledger.keep())
            yield ledger
            keeping.cancel()
        ended = True
    except BaseExceptionGroup as error:
        raise first(error) from None
    finally:
        if not ended:
            with suppress(CatalogError):
                await runs.release(ledger.run)
    await runs.end(ledger.run, RunState.DONE, dict(ledger.run.progress))
