"""A store in memory that takes its time, and fails now and then: before it did what was asked, or after."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from gateway.errors import StoreUnavailable
from gateway.ports import Piece, Stat
from tests.doubles.stores import FaultyStore

T = TypeVar("T")


class SlowStore(FaultyStore):
    """See the module; `faults` is how often it fails."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.faults = 0.0

    async def put(self, key: str, piece: Piece) -> None:
        await self._around(partial(super().put, key, piece))

    async def replace(self, key: str, piece: Piece) -> None:
        await self._around(partial(super().replace, key, piece))

    async def delete(self, key: str) -> None:
        await self._around(partial(super().delete, key))

    async def stat(self, key: str) -> Stat:
        return await self._around(partial(super().stat, key))

    async def step(self, what: str) -> None:
        await self._rest()
        await super().step(what)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        await self._rest()
        async for piece in super().read(key, start, stop):
            yield piece
            await self._rest()

    def harm(self, key: str) -> None:
        """Lose an object, or a bit of it, behind everybody's back."""
        found = self._objects.pop(key, None)
        if found is not None and self.dice.random() < 0.5:
            data = bytearray(found.data)
            data[self.dice.randrange(len(data))] ^= 1
            self._create(key, bytes(data))

    async def _around(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._rest()
        result = await call()
        await self._rest()
        return result

    async def _rest(self) -> None:
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)
        if (slow := self.dice.random()) < 0.2:
            await asyncio.sleep(self.dice.random() * (0.05 if slow < 0.03 else 0.005))
        if self.dice.random() < self.faults:
            raise StoreUnavailable("busy, or the answer was lost")
