"""A store that fails now and then, before or after it did what was asked."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar

from gateway.errors import StoreUnavailable
from gateway.ports import PartUpload, Piece, Stat, Store, Unfinished

T = TypeVar("T")


async def no_sleep(_seconds: float) -> None:
    """Pause for no time."""


class FaultyStore:
    """Fails a part of all calls. Half of the failed ones have happened: only the answer is lost."""

    def __init__(self, store: Store, dice: random.Random, rate: float) -> None:
        self._store = store
        self._dice = dice
        self.rate = rate

    async def put(self, key: str, piece: Piece) -> None:
        await self._call(lambda: self._store.put(key, piece))

    async def replace(self, key: str, piece: Piece) -> None:
        await self._call(lambda: self._store.replace(key, piece))

    async def begin(self, key: str) -> PartUpload:
        # An upload whose answer is lost stays behind, which the contract does not want to see.
        self._fail()
        return _FaultyUpload(await self._store.begin(key), self)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes | memoryview]:
        self._fail()
        async with aclosing(self._store.read(key, start, stop)) as pieces:
            async for piece in pieces:
                half = len(piece) // 2
                if half and self._dice.random() < self.rate:
                    yield piece[:half]
                    raise StoreUnavailable("a stream broke")
                yield piece

    async def stat(self, key: str) -> Stat:
        return await self._call(lambda: self._store.stat(key))

    async def delete(self, key: str) -> None:
        await self._call(lambda: self._store.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        async for each in self._store.list(prefix):
            if self._dice.random() < self.rate / 100:
                raise StoreUnavailable("a listing broke")
            yield each

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        async for each in self._store.unfinished(prefix):
            self._fail()
            yield each

    async def touched(self, upload: Unfinished) -> datetime:
        return await self._call(lambda: self._store.touched(upload))

    async def discard(self, upload: Unfinished) -> None:
        await self._call(lambda: self._store.discard(upload))

    async def check(self) -> None:
        await self._store.check()

    async def close(self) -> None:
        await self._store.close()

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        self._fail()
        result = await call()
        self._fail()
        return result

    def _fail(self) -> None:
        if self._dice.random() < self.rate / 2:
            raise StoreUnavailable("an injected fault")


class _FaultyUpload:
    def __init__(self, upload: PartUpload, faults: FaultyStore) -> None:
        self._upload = upload
        self._faults = faults

    async def part(self, number: int, piece: Piece) -> None:
        await self._faults._call(lambda: self._upload.part(number, piece))

    async def complete(self) -> None:
        await self._faults._call(self._upload.complete)

    async def abort(self) -> None:
        await self._faults._call(self._upload.abort)
