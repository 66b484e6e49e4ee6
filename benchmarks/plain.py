"""The floor: an ordinary streaming proxy in front of a bucket, without encryption, catalog and keys.

What one would write with aiohttp on both sides and uvloop: the body of a PUT goes on as it comes, as one
signed request to every bucket; the body of a GET comes back the same way. No parts, checksums, tokens,
retries, quorum or record of what happened; the path is the object's key, and sizes are remembered.
`bare` puts Sealgate's own store client behind the same server.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

from gateway.stores.s3_sign import EMPTY, UNSIGNED, Credentials, Signer

RANGE = re.compile(r"bytes=(\d+)-(\d+)")
AHEAD = 8  # pieces that one bucket may be ahead of the other


class Client(Protocol):
    """One bucket."""

    async def put(self, key: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Store an object."""

    def read(self, key: str, start: int, stop: int) -> AsyncIterator[bytes | memoryview]:
        """Stream part of an object."""
        ...


class Ordinary:
    """A bucket over aiohttp's client, used as its documentation shows."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._host = urlsplit(settings["endpoint"]).netloc
        self._signer = Signer(settings["region"])
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def put(self, key: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """See `Client`."""
        url, headers = self._signed("PUT", key, {"content-length": str(size)}, UNSIGNED)
        async with self._session.put(url, headers=headers, data=pieces) as response:
            response.raise_for_status()

    async def read(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `Client`."""
        url, headers = self._signed("GET", key, {"range": f"bytes={start}-{stop - 1}"}, EMPTY)
        async with self._session.get(url, headers=headers) as response:
            response.raise_for_status()
            async for data in response.content.iter_any():
                yield data

    def _signed(
        self, method: str, key: str, headers: Mapping[str, str], payload: str
    ) -> tuple[URL, dict[str, str]]:
        path = f"/{self._settings['bucket']}/{key}"
        signed = self._signer.sign(
            Credentials(self._settings["access_key"], self._settings["secret_key"]),
            method=method,
            host=self._host,
            path=path,
            query="",
            headers=headers,
            payload=payload,
            at=datetime.now(UTC),
        )
        return URL(f"http://{self._host}{path}", encoded=True), signed


class Proxy:
    """PUT to all buckets, GET from the first."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients
        self._sizes: dict[str, int] = {}

    async def put(self, request: web.Request) -> web.Response:
        """Store the body."""
        key, size = request.match_info["key"], request.content_length or 0
        self._sizes[key] = size
        pieces = request.content.iter_any()
        if len(self._clients) == 1:
            await self._clients[0].put(key, size, pieces)
            return web.Response(status=201)
        queues = [asyncio.Queue[bytes](AHEAD) for _ in self._clients]
        async with asyncio.TaskGroup() as sending:
            for client, queue in zip(self._clients, queues, strict=True):
                sending.create_task(client.put(key, size, _drained(queue)))
            async for data in pieces:
                for queue in queues:
                    await queue.put(data)
            for queue in queues:
                await queue.put(b"")
        return web.Response(status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Send the object, or the one range of it that is asked for."""
        key = request.match_info["key"]
        asked, size = RANGE.fullmatch(request.headers.get("Range", "")), self._sizes[key]
        start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        response = web.StreamResponse(status=206 if asked else 200)
        response.content_length = stop - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        await response.prepare(request)
        async for data in self._clients[0].read(key, start, stop):
            await response.write(data)
        await response.write_eof()
        return response


async def _drained(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while data := await queue.get():
        yield data


async def serve(port: int, clients: Sequence[Client]) -> None:
    """Serve until killed."""
    proxy = Proxy(clients)
    app = web.Application()
    app.router.add_put("/{key:.+}", proxy.put)
    app.router.add_get("/{key:.+}", proxy.get)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def settings() -> list[dict[str, str]]:
    """Return what the file says that the second argument names: the buckets."""
    told: list[dict[str, str]] = json.loads(Path(sys.argv[2]).read_text())
    return told


async def _main() -> None:
    await serve(int(sys.argv[1]), [Ordinary(each) for each in settings()])


if __name__ == "__main__":
    uvloop.run(_main())
