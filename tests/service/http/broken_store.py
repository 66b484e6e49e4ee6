"""A store that counts what is asked of it and fails on demand."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import StoreError
from gateway.ports import PartUpload, Piece, Stat, Unfinished
from gateway.stores.memory import MemoryStore


@dataclass(slots=True)
class Faults:
    """What goes wrong from now on. A test that sets one resets it with `BrokenStore.mend`."""

    refuse: StoreError | None = None  # every call
    refuse_writes: StoreError | None = None
    damage_from: int | None = None  # ciphertext offset from which every read byte is wrong
    pause: asyncio.Event | None = None  # every piece of a read waits for it


@dataclass(slots=True)
class BrokenStore:
    """Objects in memory behind a counter and faults."""

    name: str
    inner: MemoryStore = field(default_factory=MemoryStore)
    faults: Faults = field(default_factory=Faults)
    calls: Counter[str] = field(default_factory=Counter)
    read_bytes: int = 0
    open_reads: int = 0

    def mend(self) -> None:
        """Forget faults and counts."""
        self.faults = Faults()
        self.calls.clear()
        self.read_bytes = 0

    async def keys(self) -> set[str]:
        """Name every object and every unfinished upload."""
        objects = {stat.key async for stat in self.inner.list("t/")}
        return objects | {item.key async for item in self.inner.unfinished("t/")}

    def _called(self, what: str, *, write: bool = False) -> None:
        self.calls[what] += 1
        for fault in (self.faults.refuse, self.faults.refuse_writes if write else None):
            if fault is not None:
                raise fault

    async def put(self, key: str, piece: Piece) -> None:
        self._called("put", write=True)
        await self.inner.put(key, piece)

    async def replace(self, key: str, piece: Piece) -> None:
        self._called("replace", write=True)
        await self.inner.replace(key, piece)

    async def begin(self, key: str) -> PartUpload:
        self._called("begin", write=True)
        return _BrokenUpload(self, await self.inner.begin(key))

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        self._called("read")
        self.open_reads += 1
        try:
            async for piece in self.inner.read(key, start, stop):
                if self.faults.pause is not None:
                    await self.faults.pause.wait()
                self.read_bytes += len(piece)
                good = self.faults.damage_from
                if good is not None and start + len(piece) > good:
                    at = max(good - start, 0)
                    yield piece[:at] + bytes(byte ^ 1 for byte in piece[at:])
                else:
                    yield piece
                start += len(piece)
        finally:
            self.open_reads -= 1

    async def stat(self, key: str) -> Stat:
        self._called("stat")
        return await self.inner.stat(key)

    async def delete(self, key: str) -> None:
        self._called("delete")
        await self.inner.delete(key)

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        self._called("list")
        async for stat in self.inner.list(prefix):
            yield stat

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        self._called("unfinished")
        async for item in self.inner.unfinished(prefix):
            yield item

    async def touched(self, upload: Unfinished) -> datetime:
        self._called("touched")
        return await self.inner.touched(upload)

    async def discard(self, upload: Unfinished) -> None:
        self._called("discard")
        await self.inner.discard(upload)

    async def check(self) -> None:
        self._called("check")

    async def close(self) -> None:
        """Keep everything: the test looks at it afterwards."""


@dataclass(slots=True)
class _BrokenUpload:
    store: BrokenStore
    inner: PartUpload

    async def part(self, number: int, piece: Piece) -> None:
        self.store._called("part", write=True)
        await self.inner.part(number, piece)

    async def complete(self) -> None:
        self.store._called("complete", write=True)
        await self.inner.complete()

    async def abort(self) -> None:
        self.store._called("abort")
        await self.inner.abort()
