"""The stricter floor: the proxy of `plain` over Sealgate's own store client.

What is left of Sealgate without encryption, catalog and keys: bodies up to one part go out as one object,
larger ones in parts, two at once, each with its CRC-64. Whatever makes the store client cheaper makes this
cheaper too, so that the distance to it is what sealing and bookkeeping cost.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvloop
from awscrt.checksums import crc64nvme

from benchmarks.plain import serve, settings
from gateway.ports import PartUpload, Piece
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings

PART = 8 * 1024 * 1024
PARALLEL = 2


class Bare:
    """A bucket over `S3Store`, with part buffers that are used again."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._free: list[bytearray] = []

    async def put(self, key: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """See `plain.Client`."""
        if size <= PART:
            async for piece in self._filled(pieces, size):
                await self._store.put(key, piece)
                self._put_back(piece)
            return
        upload = await self._store.begin(key)
        free, number = asyncio.Semaphore(PARALLEL), 0
        await free.acquire()
        async with asyncio.TaskGroup() as sending:
            async for piece in self._filled(pieces, PART):
                number += 1
                sending.create_task(self._send(upload, number, piece, free))
                await free.acquire()
        await upload.complete()

    async def read(self, key: str, start: int, stop: int) -> AsyncIterator[bytes | memoryview]:
        """See `plain.Client`."""
        async for data in self._store.read(key, start, stop):
            yield data

    async def _filled(self, pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[Piece]:
        """Cut the body into pieces of that size, and a rest."""
        view, used = memoryview(b""), 0
        async for data in pieces:
            rest = memoryview(data)
            while rest:
                view = view if used else self._buffer(size)
                some = rest[: size - used]
                view[used : used + len(some)] = some
                used, rest = used + len(some), rest[len(some) :]
                if used == size:
                    yield Piece(view, crc64nvme(view))
                    used = 0
        if used:
            yield Piece(view[:used], crc64nvme(view[:used]))

    def _buffer(self, size: int) -> memoryview:
        return memoryview(self._free.pop() if self._free and size == PART else bytearray(size))

    async def _send(
        self, upload: PartUpload, number: int, piece: Piece, free: asyncio.Semaphore
    ) -> None:
        await upload.part(number, piece)
        self._put_back(piece)
        free.release()

    def _put_back(self, piece: Piece) -> None:
        if isinstance(buffer := piece.data.obj, bytearray) and len(buffer) == PART:
            self._free.append(buffer)


async def _main() -> None:
    stores = [S3Store(S3Settings(**each)) for each in settings()]  # type: ignore[arg-type]
    await serve(int(sys.argv[1]), [Bare(store) for store in stores])


if __name__ == "__main__":
    uvloop.run(_main())
