"""A few threads for calls that block, so that a slow disk never holds the event loop.

A cancelled call raises its flag and returns only after its thread has let go of the caller's memory
and files; a job that did not begin yet is dropped. A disk that hangs therefore also holds a cancelled
call, but never another store's: each has its own threads.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

from gateway.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Flag:
    """A request to stop, which a long job looks at between two blocks."""

    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = False


class Workers:
    """A bounded pool of threads, each made when it is first needed.

    `errors` makes the context that every job runs in: the place to translate what it raises.
    """

    def __init__(
        self, threads: int, name: str, errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._errors = errors

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread and return what it returns. Raises StoreUnavailable if closed."""
        return await self.run_until(Flag(), function, *args, **kwargs)

    async def run_until(
        self, stop: Flag, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function`, which looks at `stop`: the flag goes up when the caller is cancelled."""
        try:
            job = self._pool.submit(self._translated, functools.partial(function, *args, **kwargs))
        except RuntimeError as error:
            raise StoreUnavailable("the store is closed") from error
        outcome = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            stop.up = True
            if not job.cancel():
                await _settled(outcome)
            raise

    def close(self) -> None:
        """Let the threads end. Idempotent."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _translated(self, call: Callable[[], T]) -> T:
        with self._errors():
            return call()


async def _settled(outcome: asyncio.Future[T]) -> None:
    """Wait for a thread that nothing can stop, through further cancellations."""
    while not outcome.done():
        try:
            await asyncio.wait([outcome])
        except asyncio.CancelledError:
            continue
    if not outcome.cancelled():
        outcome.exception()  # seen, so that nobody complains that it was not
