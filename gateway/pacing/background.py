"""Work that outlives the request that caused it, such as removing the leftovers of a broken upload.

Guarantees that such work is bounded in time and in number, that an error ends in the log and nowhere
else, and that stopping waits for it up to a deadline. Work that is dropped is found again by the
reaper, so nothing depends on it for correctness.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger()
QUEUE = 16  # how many wait for each that runs


class Background:
    """A task group that lives as long as the application."""

    def __init__(self, *, most: int = 64, timeout: float = 60.0, drain: float = 10.0) -> None:
        self._room = asyncio.Semaphore(most)
        self._most = most * QUEUE
        self._timeout = timeout
        self._drain = drain
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self._drain)
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)  # an error of the block stays as it is

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            await asyncio.wait(self._running)

    def start(self, what: str, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` beside everything else; `what` names it in the log if it fails.

        Drops it when too much waits already, and returns False.
        """
        if len(self._running) >= self._most:
            log.warning("background work dropped", work=what)
            work.close()
            return False
        task = self._group.create_task(self._run(what, work), name=what)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _run(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._timeout), self._room:
                await work
        except Exception as error:  # noqa: BLE001 - its failure must not end its neighbours
            log.warning("background work failed", work=what, error=type(error).__name__)
        finally:
            work.close()
