"""The floor for this design: the same aiohttp server and S3 store, and nothing in between.

What an ordinary proxy in front of a bucket does, streaming both ways: a body up to one part goes out
as one object, a larger one in parts, two at once, each with the CRC-64 that S3 clients send today; to
every bucket it is given. No encryption, catalog, keys, tokens, retries, quorum or failover, no record
of what happened; the path is the object's key, and sizes are remembered, to spare a HEAD.
"""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from aiohttp import web
from awscrt.checksums import crc64nvme

from gateway.ports import PartUpload, Piece
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings

PART = 8 * 1024 * 1024
PARALLEL = 2
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Plain:
    """PUT to all stores, GET from the first."""

    def __init__(self, stores: Sequence[S3Store]) -> None:
        self._stores = stores
        self._free: list[bytearray] = []
        self._sizes: dict[str, int] = {}

    async def put(self, request: web.Request) -> web.Response:
        """Store the body."""
        key, left = request.match_info["key"], request.content_length or 0
        self._sizes[key] = left
        if left <= PART:
            piece = await self._fill(request, bytearray(left), left)
            await asyncio.gather(*(store.put(key, piece) for store in self._stores))
            return web.Response(status=201)
        uploads = await asyncio.gather(*(store.begin(key) for store in self._stores))
        free, number = asyncio.Semaphore(PARALLEL), 0
        async with asyncio.TaskGroup() as sending:
            while left:
                number += 1
                await free.acquire()
                buffer = self._free.pop() if self._free else bytearray(PART)
                piece = await self._fill(request, buffer, min(PART, left))
                left -= len(piece.data)
                sending.create_task(self._send(uploads, number, buffer, piece, free))
        await asyncio.gather(*(upload.complete() for upload in uploads))
        return web.Response(status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Send the object, or the one range of it that is asked for."""
        key, store = request.match_info["key"], self._stores[0]
        asked, size = RANGE.fullmatch(request.headers.get("Range", "")), self._sizes[key]
        start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        response = web.StreamResponse(status=206 if asked else 200)
        response.content_length = stop - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        await response.prepare(request)
        async for data in store.read(key, start, stop):
            await response.write(data)
        await response.write_eof()
        return response

    async def _fill(self, request: web.Request, buffer: bytearray, size: int) -> Piece:
        """Read the next `size` bytes of the body into the buffer and return them as a piece."""
        view, used = memoryview(buffer)[:size], 0
        while used < size:
            data = await request.content.read(size - used)
            if not data:
                raise web.HTTPBadRequest
            view[used : used + len(data)] = data
            used += len(data)
        return Piece(view, crc64nvme(view))

    async def _send(
        self,
        uploads: Sequence[PartUpload],
        number: int,
        buffer: bytearray,
        piece: Piece,
        free: asyncio.Semaphore,
    ) -> None:
        await asyncio.gather(*(upload.part(number, piece) for upload in uploads))
        self._free.append(buffer)
        free.release()


async def main(port: int, stores: Sequence[S3Store]) -> None:
    """Serve until killed."""
    plain = Plain(stores)
    app = web.Application()
    app.router.add_put("/{key:.+}", plain.put)
    app.router.add_get("/{key:.+}", plain.get)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[2]).read_text())
    uvloop.run(main(int(sys.argv[1]), [S3Store(S3Settings(**each)) for each in settings]))
