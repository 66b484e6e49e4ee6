"""A few threads for calls that block, so that a slow disk never holds the event loop or a caller.

A cancelled call returns at once. Its thread may go on: a job that takes a Flag ends at its next look,
one that hangs in the system keeps its thread, and the memory that it was given, until the system lets
it go. So memory of a call that was cancelled must not be used again. A store has no more threads than
it was allowed; when all of them hang, calls wait for one no longer than their time. Threads are daemons:
one that hangs does not keep the process from ending.
"""

import asyncio
import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from gateway.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """The caller has left, so nobody wants the outcome any more."""


class Flag:
    """A request to stop, which a long job looks at between two steps."""

    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = False

    def check(self) -> None:
        """Raise Stopped if the flag is up."""
        if self.up:
            raise Stopped


class _Job:
    """A call on its way to a thread, and its outcome on the way back to the event loop."""

    def __init__(self, call: Callable[[], Any], ended: Callable[[], None]) -> None:
        self._call: Callable[[], Any] | None = call
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        """Make the call, unless its caller has left. In a thread."""
        call, self._call = self._call, None  # what it holds goes when it has ended
        result, error = None, None
        try:
            if call is not None and not self.outcome.done():
                result = call()
        except BaseException as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        try:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._settle, result, error)
        finally:
            del call, error  # its traceback holds this frame, and the frames below hold memory

    def _settle(self, result: object, error: BaseException | None) -> None:
        self._ended()
        if self.outcome.done():  # the caller has left
            return
        if error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)


class Workers:
    """A bounded pool of threads, each made when it is first needed.

    `errors` makes the context that every job runs in: the place to translate what it raises. `patience`
    is how many seconds a call of `run` may take, with its wait for a thread.
    """

    def __init__(
        self,
        threads: int,
        name: str,
        errors: Callable[[], AbstractContextManager[None]],
        *,
        patience: float = 60.0,
    ) -> None:
        self._name = name
        self._errors = errors
        self._patience = patience
        self._free = asyncio.Semaphore(threads)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread and return what it returns.

        Raises StoreUnavailable when it takes too long, and when the pool is closed.
        """
        try:
            async with asyncio.timeout(self._patience):
                return await self.run_until(Flag(), function, *args, **kwargs)
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None

    async def run_until(
        self, stop: Flag, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function`, which looks at `stop`: the flag goes up when the caller is cancelled.

        For calls that are given memory. They have no time limit here, since whoever made another try
        would not know that the first one still holds the memory: the limit is the caller's.
        """
        await self._free.acquire()
        try:
            call = functools.partial(function, *args, **kwargs)
            outcome = self._start(functools.partial(self._translated, call))
        except BaseException:
            self._free.release()
            raise
        try:
            result: T = await outcome
        except asyncio.CancelledError:
            stop.up = True
            raise
        return result

    def close(self) -> None:
        """Let the threads end. Idempotent."""
        if not self._closed:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._busy == self._threads:
            name = f"{self._name}-{self._threads}"
            try:
                threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()
            except RuntimeError as error:
                raise StoreUnavailable("the system gives the store no thread") from error
            self._threads += 1
        job = _Job(call, self._ended)
        self._busy += 1
        self._jobs.put(job)
        return job.outcome

    def _ended(self) -> None:
        self._busy -= 1
        self._free.release()

    def _translated(self, call: Callable[[], T]) -> T:
        with self._errors():
            return call()


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job
