"""A store in memory that fails on command, remembers what was asked of it and checks what it gets."""

import asyncio
from collections.abc import AsyncGenerator

from awscrt.checksums import crc64nvme

from gateway.errors import StoreError
from gateway.ports import PartUpload, Piece
from gateway.stores.memory import MemoryStore


class FaultyStore(MemoryStore):
    """Counts and orders calls; `fail` raises on writing, `gate` holds writes until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.sizes: list[int] = []  # of the parts that arrived
        self.fail: StoreError | None = None
        self.fail_on: str = ""  # a word the call begins with; empty for every write
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()  # set by the first write
        self.read_fault: StoreError | None = None
        self.read_limit: int | None = None  # bytes before the fault
        self.flip: int | None = None  # offset of a byte to damage in what is read
        self.bytes_read = 0

    async def step(self, what: str) -> None:
        """Record a write, and fail or wait as told."""
        self.calls.append(what)
        self.begun.set()
        if self.fail is not None and what.startswith(self.fail_on):
            raise self.fail
        await self.gate.wait()

    async def put(self, key: str, piece: Piece) -> None:
        check(piece)
        await self.step(f"put {key.rsplit('/', 1)[1]}")
        await super().put(key, piece)

    def have(self, key: str, data: bytes) -> None:
        """Hold an object of somebody else's making, under any name."""
        self._create(key, data)

    async def replace(self, key: str, piece: Piece) -> None:
        check(piece)
        await self.step(f"replace {key.rsplit('/', 1)[1]}")
        await super().replace(key, piece)

    async def begin(self, key: str) -> PartUpload:
        await self.step("begin")
        return _FaultyUpload(self, await super().begin(key))

    async def delete(self, key: str) -> None:
        self.calls.append(f"delete {key.rsplit('/', 1)[1]}")
        await super().delete(key)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        position = start
        async for block in super().read(key, start, stop):
            piece = block
            if self.read_limit is not None and position + len(block) > self.read_limit:
                piece = block[: max(self.read_limit - position, 0)]
            if self.flip is not None and position <= self.flip < position + len(piece):
                damaged = bytearray(piece)
                damaged[self.flip - position] ^= 1
                piece = bytes(damaged)
            if piece:
                self.bytes_read += len(piece)
                position += len(piece)
                yield piece
            if self.read_fault is not None and len(piece) < len(block):
                raise self.read_fault

    @property
    def keys(self) -> list[str]:
        """Every key that is there."""
        return sorted(self._objects)

    @property
    def open_uploads(self) -> int:
        """How many multipart uploads are neither complete nor aborted."""
        return len(self._uploads)


def check(piece: Piece) -> None:
    """Find a checksum that is not the data's, as a real store does."""
    assert crc64nvme(piece.data) == piece.crc64nvme


class _FaultyUpload:
    def __init__(self, store: FaultyStore, upload: PartUpload) -> None:
        self._store = store
        self._upload = upload

    async def part(self, number: int, piece: Piece) -> None:
        check(piece)
        await self._store.step(f"part {number}")
        await self._upload.part(number, piece)
        self._store.sizes.append(len(piece.data))

    async def complete(self) -> None:
        await self._store.step("complete")
        await self._upload.complete()

    async def abort(self) -> None:
        self._store.calls.append("abort")
        await self._upload.abort()
