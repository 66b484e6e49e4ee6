"""Dumps as the tests of them take, cut and load them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from gateway.catalog import SqlCatalog

Fresh = Callable[[str], Any]


async def taken(catalog: SqlCatalog) -> list[bytes]:
    """Return a dump's pieces."""
    async with aclosing(catalog.dumps.dump()) as pieces:
        return [piece async for piece in pieces]


async def again(pieces: list[bytes], step: int = 100_000) -> AsyncGenerator[bytes]:
    """Stream a dump, cut in other places."""
    whole = b"".join(pieces)
    for start in range(0, len(whole), step):
        yield whole[start : start + step]
