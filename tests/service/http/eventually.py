"""Waiting for what happens behind an answer, such as the removal of leftovers."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[object]], within: float = 60.0) -> None:
    """Return once `holds()` is true. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 - the catalog and the stores tell nobody
            await asyncio.sleep(0.01)
