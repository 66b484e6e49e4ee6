"""How to read one target's copy: patiently, or only while it is quick because others have one too.

Guarantees of a hasty read that it fails within its time if no byte comes, and at the first failure. A
patient read takes as long, and tries as often, as the store does by itself.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from gateway.errors import StoreUnavailable
from gateway.ports import Store


@runtime_checkable
class Repeating(Protocol):
    """A store that tries again by itself, and the same one without that."""

    @property
    def once(self) -> Store:
        """The store that tries nothing twice."""


async def read(
    store: Store, key: str, start: int, stop: int, *, first_byte: float | None
) -> AsyncGenerator[bytes | memoryview]:
    """Stream bytes [start, stop) of an object; hastily if `first_byte`, in seconds, is given.

    Raises what `Store.read` raises, and StoreUnavailable for a first byte that is late.
    """
    if first_byte is not None and isinstance(store, Repeating):
        store = store.once
    async with aclosing(store.read(key, start, stop)) as pieces:
        try:
            async with asyncio.timeout(first_byte):
                block = await anext(pieces, None)
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None
        while block is not None:
            yield block
            block = await anext(pieces, None)
