"""A TCP proxy that cuts connections around a COMMIT, or falls silent in the middle of them."""

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

_COMMIT = b"COMMIT;\0"


class When(enum.Enum):
    """Where the cut goes: before PostgreSQL sees the COMMIT, or after it answered."""

    BEFORE = enum.auto()
    AFTER = enum.auto()


class Cut:
    """Forwards everything; once armed, cuts the next connection that commits."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.armed: When | None = None
        self.silent = False  # keep connections and pass nothing on
        self._open: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """End every connection."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        answering = asyncio.get_running_loop().create_task(_pump(server_reader, writer))
        try:
            while data := await reader.read(65536):
                if self.silent:
                    continue
                if self.armed and _COMMIT in data:
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
                    when, self.armed = self.armed, None
                    if when is When.AFTER:
                        server_writer.write(data)
                        await server_reader.read(65536)
                    break
                server_writer.write(data)
        finally:
            answering.cancel()
            for end in (writer, server_writer):
                end.close()
            for end in (writer, server_writer):
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def cut(dsn: str) -> AsyncIterator[tuple[Cut, str]]:
    """Give a proxy in front of a PostgreSQL and the DSN that goes through it."""
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    proxy = Cut(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, dsn.replace(f":{parts.port}/", f":{port}/")
    finally:
        server.close()
        await proxy.close()
