"""An S3 server that answers as a test tells it to: late, wrongly, partly, or not at all."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gateway.stores.s3_settings import S3Settings
from tests.servers.ports import LOOPBACK


@dataclass(slots=True)
class Exchange:
    """One request as it arrived, and the way back."""

    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def length(self) -> int:
        """Return how long the body is said to be."""
        for line in self.head.splitlines():
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                return int(value)
        return 0

    async def body(self) -> bytes:
        """Read the body."""
        return await self.reader.readexactly(self.length)

    async def send(self, status: str, body: bytes = b"", *headers: str) -> None:
        """Answer, with a length unless the headers say otherwise."""
        if self.head.startswith("HEAD "):
            body = b""
        lines = [f"HTTP/1.1 {status}", *headers]
        if not any(line.lower().startswith(("content-length", "transfer-enc")) for line in headers):
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()


Answer = Callable[[Exchange], Awaitable[None]]

# For what never answers: of a server that does, a busy machine would make one that does not.
HASTY = {"stall_timeout": 0.1, "complete_timeout": 0.1}


@dataclass(slots=True)
class RudeServer:
    """Gives every request the same answer; a connection ends when its answer returns."""

    answer: Answer
    tls: ssl.SSLContext | None = None
    heads: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, ssl=self.tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def settings(self, **others: Any) -> S3Settings:
        """Return settings of a store here, as patient as a busy machine needs: see `HASTY`."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self.tls else "http"
        endpoint = f"{scheme}://{LOOPBACK}:{port}"
        values: dict[str, Any] = {"access_key": "AKIA", "secret_key": "secret-key"}
        values |= {"stall_timeout": 60.0, "connect_timeout": 60.0, "complete_timeout": 60.0}
        return S3Settings("rude", "bucket", endpoint, **(values | others))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            await self.answer(Exchange(head, reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the other side left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
