"""A worker's drill in a forked process, which says at every version how far it got."""

import asyncio
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.stack import forks


def begin(config: Path, most: int) -> BaseProcess:
    """Start a drill of everything, which stands still after so many versions; 0: which does not."""
    process = forks._FORKS.Process(target=_run, args=(config, most), daemon=True)
    process.start()
    return process


def _run(config: Path, most: int) -> None:
    from gateway.duties import duty  # noqa: PLC0415 - in the forked process
    from gateway.recovery import drill, drilled  # noqa: PLC0415 - as above

    keep, kept = drilled.Course.keep, 0

    async def slowly(self: drilled.Course, after: str | None) -> None:
        nonlocal kept
        await keep(self, after)
        kept += after is not None
        if most and kept >= most:
            await asyncio.Event().wait()

    duty.OFTEN = 0.0
    drill.STEP = 1  # type: ignore[misc]
    drilled.Course.keep = slowly  # type: ignore[method-assign]
    forks._run(config, ("worker", "--once", "--kind", drill.EVERYTHING))
