"""Tells, in every process, which rotations of keys were missed: as the last round found it, whoever made it.

Guarantees that all processes tell the same, within `every` seconds of a round's end, also those that came up
since, and that what cannot be asked stands as it was. It looks at no key: that is the rounds' part. That
rounds are made at all is told by when the last one was.
"""

import asyncio
from typing import Protocol

import structlog

from gateway.errors import CatalogError
from gateway.ports import Run, Runs, RunState
from gateway.rotation.rounds import KEYS, KIND

RECENT = 20  # runs among which the last round is looked for that got to its end

log = structlog.get_logger()


class Watch(Protocol):
    """Who is told, for figures."""

    def overdue(self, of: str, count: int) -> None:
        """Tell how many rotations of this kind were missed, as of the end of a round."""


class Overdue:
    """The watch over what rounds leave on record. Times in seconds."""

    def __init__(self, runs: Runs, watch: Watch, *, every: float = 30.0) -> None:
        self._runs = runs
        self._watch = watch
        self._every = every

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
            except CatalogError as error:
                log.warning("what is overdue is not known", reason=type(error).__name__)
            await asyncio.sleep(self._every)

    async def refresh(self) -> None:
        """Ask the catalog once, and tell. Raises CatalogErrors."""
        ended = [
            run
            for run in await self._runs.history(KIND, "", RECENT)
            if run.state is not RunState.RUNNING and all(_count(run, of) is not None for of in KEYS)
        ]
        if not ended:
            return
        last = max(ended, key=lambda run: run.ended or run.started)
        for of in KEYS:
            self._watch.overdue(of, _count(last, of) or 0)


def _count(run: Run, of: str) -> int | None:
    """Return what a round left on record; None where it did not get so far."""
    found = run.outcome.get(f"overdue_{of}")
    return found if isinstance(found, int) else None
