"""How fast background work may be: bytes and requests a second, shared by all who take from one rate.

Guarantees that over any stretch of time no more is taken than the rate allows for it, and for `burst`
seconds on top; one that takes more than that at once is let through, and those behind it wait the longer.
First come, first served. Knows nothing of what is taken.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

BURST = 1.0  # seconds of the rate that may be taken at once after a rest


class Rate:
    """Limits in bytes and in requests a second; 0 is no limit. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        bytes_per_second: float = 0.0,
        requests_per_second: float = 0.0,
        *,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._bytes = _Line(bytes_per_second, burst)
        self._requests = _Line(requests_per_second, burst)
        self._clock = clock
        self._sleep = sleep

    async def take(self, size: int, requests: int = 0) -> None:
        """Wait until `size` bytes and so many requests are due. A cancelled wait has taken them."""
        at = self._clock()
        pause = max(self._bytes.join(at, size), self._requests.join(at, requests))
        if pause > 0:
            await self._sleep(pause)


class _Line:
    """Those who wait for one kind of thing, as the time at which the last of them has paid."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._price = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._paid = float("-inf")

    def join(self, at: float, amount: int) -> float:
        """Queue up behind the others; return in how many seconds it is one's turn."""
        if not amount or not self._price:
            return 0.0
        turn = max(self._paid, at - self._burst)
        self._paid = turn + amount * self._price
        return turn - at
