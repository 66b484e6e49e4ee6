"""When to try again, how long to wait first, and how often: knows calls, but no store.

Pauses grow twofold and are drawn at random between nothing and their bound ("full jitter"), so that
many callers that failed together do not come back together. The budget is shared by the calls of a
store: when most of them fail, trying again only adds to the load, so it stops.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import StoreDamaged, StoreError, StoreUnavailable

T = TypeVar("T")
Kinds = tuple[type[StoreError], ...]

_CALL: Kinds = (StoreUnavailable,)
_BODY: Kinds = (StoreUnavailable, StoreDamaged)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be with one call. Times are seconds.

    A store that asks for a longer pause than `longest_pause` is not tried again: its caller may know
    another one. Deadlines hold for a call with all its tries; a check has one try.
    """

    tries: int = 4
    first_pause: float = 0.1
    longest_pause: float = 5.0
    check_deadline: float = 10.0
    call_deadline: float = 60.0
    body_deadline: float = 300.0

    def bound(self, failures: int) -> float:
        """Return the longest pause after this many failures in a row."""
        return min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))


class Overdue(StoreUnavailable):
    """The deadline passed: nobody knows what the last try has done, or still does."""


class RetryBudget:
    """A bucket of tokens: trying again takes one, a success puts a part of one back."""

    def __init__(self, capacity: float = 100.0, refund: float = 0.1) -> None:
        self._capacity = capacity
        self._refund = refund
        self._tokens = capacity
        self.taken = 0
        self.refused = 0

    def take(self) -> bool:
        """Take a token for another try, if there is one."""
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        self.taken += 1
        return True

    def succeeded(self) -> None:
        """Put a part of a token back."""
        self._tokens = min(self._capacity, self._tokens + self._refund)


def full_jitter() -> float:
    """Return a number between 0 and 1 that spreads pauses. Guards no secret."""
    return random.random()  # noqa: S311


class Tries:
    """Makes one call as often as a policy and a budget allow."""

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        sleep: Callable[[float], Awaitable[object]],
        jitter: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.budget = budget
        self._sleep = sleep
        self._jitter = jitter

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that may safely be repeated."""
        return await self._make(call, self.policy.call_deadline, _CALL)

    async def body(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that sends a body and may safely be repeated."""
        return await self._make(call, self.policy.body_deadline, _BODY)

    async def settle(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that settles what was sent: it cannot mend damage, so it does not try to."""
        return await self._make(call, self.policy.body_deadline, _CALL)

    async def pause(self, failures: int, error: StoreError) -> None:
        """Wait before the next try, or raise `error` if there shall be none."""
        asked = error.retry_after or 0.0
        if (
            failures >= self.policy.tries
            or asked > self.policy.longest_pause
            or not self.budget.take()
        ):
            raise error
        await self._sleep(asked + self._jitter() * self.policy.bound(failures))

    async def _make(self, call: Callable[[], Awaitable[T]], deadline: float, kinds: Kinds) -> T:
        failures = 0
        last: StoreError = StoreUnavailable("the store did not answer in time")
        try:
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        result = await call()
                    except kinds as error:
                        failures += 1
                        last = error
                        await self.pause(failures, error)
                    else:
                        self.budget.succeeded()
                        return result
        except TimeoutError:
            raise Overdue(str(last), retry_after=last.retry_after) from None
