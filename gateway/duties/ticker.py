"""Counts time for the trash, so that no jump of a clock purges anything too early.

Tells the catalog once a minute how much time has passed by this process's monotonic clock. What could not
be told is not told later: the count may lag behind real time, and never runs ahead of it.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from gateway.errors import CatalogError
from gateway.model import new_id
from gateway.ports import Bin

EVERY = 60.0

log = structlog.get_logger()


class Ticker:
    """One for each process. `clock` is for tests."""

    def __init__(
        self, bin_: Bin, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bin = bin_
        self._every = every
        self._clock = clock
        self._id = new_id()
        self._last: float | None = None

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(self._every)

    async def tick(self) -> None:
        """Tell what passed since the last try; the first one begins to count."""
        at = self._clock()
        elapsed = 0.0 if self._last is None else at - self._last
        self._last = at
        try:
            await self._bin.tick(timedelta(seconds=elapsed), self._id)
        except CatalogError as error:
            log.warning("time not counted", reason=type(error).__name__)
