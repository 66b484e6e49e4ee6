"""How long to wait before what failed is tried again: a target as a whole, one gap, or one call.

Guarantees that it is longer each time, within a bound, and a bit different for each, so that what failed
together does not come back together; and that only what may pass is tried again: a refusal, damage or
absence is final at once.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gateway.errors import CatalogUnavailable, GatewayError, StoreUnavailable
from keyservice.wire import KeyServiceError, Throttled, Unavailable

log = structlog.get_logger()
T = TypeVar("T")

LONGEST = 3600.0  # seconds at most before a gap is tried again
FIRST = 15.0
REST = 60.0  # seconds at most that a target is left alone
PAUSE = 1.0  # seconds at least before a call is made again


class Rest:
    """How long a target that failed is left alone: longer each time, until it worked once."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    def resting(self, at: float) -> bool:
        """Tell whether it is left alone now."""
        return bool(self.failures) and at < self._until

    def begin(self, at: float) -> float:
        """Leave it alone from now on; return for how many seconds. Failures at once count once."""
        if not self.resting(at):
            self.failures += 1
            self._until = at + jittered(min(REST, 2.0 ** min(self.failures - 1, 10)))
        return self._until - at

    def end(self) -> None:
        """Note that it works."""
        self.failures = 0


class Patience:
    """Makes calls again that failed for a reason that may pass; one for all of one piece of work.

    After `seconds` without a success nothing is waited for any more, so that what is down costs them
    once, however many ask. Where other calls succeed, one that failed `tries` times is left.
    """

    def __init__(
        self,
        seconds: float,
        *,
        tries: int = 6,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._seconds = seconds
        self._tries = tries
        self._clock = clock
        self._sleep = sleep
        self._failing: float | None = None  # since when nothing worked

    async def keep(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns. Raises what it raised last, once that is final or took too long."""
        failures = 0
        while True:
            try:
                answer = await ask()
            except (GatewayError, KeyServiceError) as error:
                if not passing(error):
                    raise
                failures += 1
                wait = self._wait(failures, error.retry_after)
                if wait is None:
                    raise
                log.warning("waiting for what may pass", reason=type(error).__name__)
                await self._sleep(wait)
            else:
                self._failing = None
                return answer

    def _wait(self, failures: int, asked: float | None) -> float | None:
        """Return how long to wait after a failure, None not to try again."""
        at, since = self._clock(), self._failing
        if since is None:
            self._failing = since = at
            if failures >= self._tries:  # of this call, while others succeed
                return None
        wait = max(asked or 0.0, PAUSE)
        return None if at + wait > since + self._seconds else wait


def passing(error: Exception) -> bool:
    """Tell whether an error says that the same call may succeed later."""
    if isinstance(error, KeyServiceError):
        return isinstance(error, Throttled | Unavailable)
    if isinstance(error, StoreUnavailable | CatalogUnavailable):
        return True
    return isinstance(error, GatewayError) and error.retry_after is not None


def backoff(tries: int) -> float:
    """Return the seconds until a gap that was tried so often before is tried again."""
    return jittered(min(LONGEST, FIRST * 2.0 ** min(tries, 20)))


def jittered(seconds: float) -> float:
    """Return a bit less, at random."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - guards no secret
