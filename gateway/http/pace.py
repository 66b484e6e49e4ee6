"""A peer that hardly moves is cut off, so that slow connections cannot pile up.

Time is credit: every byte moved earns `1 / rate` seconds, every second of waiting for the peer costs
one, and nobody holds more than `grace` seconds. Waiting for a store costs the peer nothing. A peer that
takes a large write slowly earns while it takes it: the kernel is asked what has not arrived.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, cast

from gateway.errors import TooSlow

if sys.platform == "linux":
    import fcntl
    import termios

T = TypeVar("T")
LOOKS = 8  # times in one grace that a waiting peer is looked at


class Pace:
    """The credit of one peer in one request; `rate` in bytes a second, `grace` in seconds."""

    def __init__(self, rate: float, grace: float) -> None:
        self._rate = rate
        self._grace = grace
        self._credit = grace

    async def wait(self, step: Awaitable[T], unsent: Callable[[], int] | None = None) -> T:
        """Wait for the peer's next step. Raises TooSlow when its credit is used up.

        When the step is a write, `unsent` tells how many bytes the peer has yet to take.
        """
        steps = step.__await__()
        try:
            waits_for = next(steps)
        except StopIteration as done:  # nothing to wait for, as mostly
            return cast("T", done.value)
        watch = _Watch(self, self._grace / LOOKS, unsent)
        try:
            async with asyncio.timeout(max(self._credit, 0)) as limit:
                watch.start(limit)
                return await _Begun(steps, waits_for)
        except TimeoutError:
            raise TooSlow(f"less than {self._rate:.0f} bytes a second") from None
        finally:
            watch.stop()

    def moved(self, size: int) -> None:
        """Earn the credit of `size` bytes."""
        self._credit = min(self._credit + size / self._rate, self._grace)

    def waited(self, seconds: float) -> float:
        """Pay for a wait and return what is left."""
        self._credit -= seconds
        return self._credit


class _Begun(Generic[T]):
    """The rest of a step that has just said what it waits for."""

    def __init__(self, steps: Generator[Any, None, T], waits_for: object) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, T]:
        try:
            yield self._waits_for
        except BaseException as error:  # noqa: BLE001 - it is for the step to take
            try:
                yield self._steps.throw(error)
            except StopIteration as done:
                return cast("T", done.value)
        return (yield from self._steps)


class _Watch:
    """Charges for one wait, and lets what the peer takes meanwhile count at once."""

    def __init__(self, pace: Pace, pause: float, unsent: Callable[[], int] | None) -> None:
        self._pace = pace
        self._pause = pause
        self._unsent = unsent
        self._left = 0
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, limit: asyncio.Timeout) -> None:
        if self._unsent is not None:
            self._left = self._unsent()
            self._timer = self._loop.call_later(self._pause, self._look, limit, self._unsent)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pay()

    def _pay(self) -> None:
        now = self._loop.time()
        since, self._since = self._since, now
        self._pace.waited(now - since)

    def _look(self, limit: asyncio.Timeout, unsent: Callable[[], int]) -> None:
        if limit.expired():
            return
        # First what was taken: of a loop that stood still, the peer had the time as well.
        self._pay()
        left = unsent()
        self._pace.moved(max(self._left - left, 0))
        self._left = left
        credit = self._pace.waited(0)
        if credit <= 0:
            return  # the limit fires by itself
        limit.reschedule(self._loop.time() + credit)
        self._timer = self._loop.call_later(self._pause, self._look, limit, unsent)


def unsent(transport: asyncio.BaseTransport | None) -> int:
    """Return how many bytes the peer of a transport has not acknowledged, as far as can be told.

    Where the kernel does not tell (not Linux), only what it was not given yet.
    """
    if transport is None:
        return 0
    waiting: int = cast("asyncio.WriteTransport", transport).get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if connection is None or sys.platform != "linux":
        return waiting
    with contextlib.suppress(OSError, ValueError):  # the connection is gone
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
        waiting += int.from_bytes(answer, sys.byteorder)
    return waiting
