"""How to read one target's copy: patiently, or only while it is quick because others have one too.

Guarantees of a hasty read that it fails within its times if no byte comes, first or next, and at the
first failure. A patient read takes as long, and tries as often, as the store does by itself. Only the
wait for the store counts, never the time that the reader takes with what it got.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gateway.errors import StoreUnavailable
from gateway.ports import Store


@runtime_checkable
class Repeating(Protocol):
    """A store that tries again by itself, and the same one without that."""

    @property
    def once(self) -> Store:
        """The store that tries nothing twice."""


@dataclass(frozen=True, slots=True)
class Haste:
    """How many seconds a store may let a read wait: for its first byte, and for more after each piece."""

    first_byte: float = 2.0
    silence: float = 5.0


async def read(
    store: Store, key: str, start: int, stop: int, *, haste: Haste | None
) -> AsyncGenerator[bytes | memoryview]:
    """Stream bytes [start, stop) of an object; hastily if `haste` is given.

    Raises what `Store.read` raises, and StoreUnavailable for a byte that is late.
    """
    if haste is None:
        async with aclosing(store.read(key, start, stop)) as pieces:
            async for block in pieces:
                yield block
        return
    if isinstance(store, Repeating):
        store = store.once
    limit = haste.first_byte
    async with aclosing(store.read(key, start, stop)) as pieces:
        while True:
            try:
                async with asyncio.timeout(limit):
                    piece = await anext(pieces, None)
            except TimeoutError:
                raise StoreUnavailable("the store sent nothing in time") from None
            if piece is None:
                return
            yield piece
            limit = haste.silence
