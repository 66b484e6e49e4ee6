"""How much memory several pieces of work may hold together: those who want more wait in line.

Guarantees that what is taken never sums up to more than `size`, unless one alone wants that much; and that
nobody is overtaken.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """A number of bytes, shared; 0 is no bound."""

    def __init__(self, size: int = 0) -> None:
        self._size = size
        self._taken = 0
        self._line = asyncio.Lock()
        self._given = asyncio.Event()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes while the block runs; wait for them before."""
        async with self._line:
            while self._size and self._taken and self._taken + size > self._size:
                self._given.clear()
                await self._given.wait()
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._given.set()
