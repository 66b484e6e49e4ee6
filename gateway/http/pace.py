"""A peer that hardly moves is cut off, so that slow connections cannot pile up.

Time is credit: every byte moved earns `1 / rate` seconds, every second of waiting for the peer costs
one, and nobody holds more than `grace` seconds. Waiting for a store costs the peer nothing.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from gateway.errors import TooSlow

T = TypeVar("T")


class Pace:
    """The credit of one peer in one request; `rate` in bytes a second, `grace` in seconds."""

    def __init__(self, rate: float, grace: float) -> None:
        self._rate = rate
        self._grace = grace
        self._credit = grace

    async def wait(self, step: Awaitable[T]) -> T:
        """Wait for the peer's next step. Raises TooSlow when its credit is used up."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(self._credit, 0)):
                return await step
        except TimeoutError:
            raise TooSlow(f"less than {self._rate:.0f} bytes a second") from None
        finally:
            self._credit -= time.monotonic() - began

    def moved(self, size: int) -> None:
        """Earn the credit of `size` bytes."""
        self._credit = min(self._credit + size / self._rate, self._grace)
