"""A wire between the gateway and a store that counts what the store sends, and can be cut off.

It takes bytes only as fast as the other side does, so that it hides no back-pressure.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from tests.servers.ports import LOOPBACK
from tests.servers.versitygw import Versitygw

_BLOCK = 64 * 1024


class CountingWire(Versitygw):
    """Passes connections on to an S3 server, and stands for it in a `Bucket`."""

    def __init__(self, server: Versitygw) -> None:  # starts no program, so it needs no home
        self._port = int(server.endpoint.rpartition(":")[2])
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.access_key, self.secret_key = server.access_key, server.secret_key
        self.region, self.folder = server.region, server.folder
        self.endpoint = ""
        self.sent = 0  # bytes from the store to the gateway

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, LOOPBACK, 0, limit=_BLOCK)
        self.endpoint = f"http://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._port, limit=_BLOCK)
        ways = (
            asyncio.ensure_future(self._pour(reader, far_writer, count=False)),
            asyncio.ensure_future(self._pour(far_reader, writer, count=True)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort()

    async def _pour(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_BLOCK):
                self.sent += len(data) if count else 0
                sink.write(data)
                await sink.drain()
