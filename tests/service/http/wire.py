"""HTTP by hand: bytes on a socket, for what no well-behaved client sends."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from multidict import CIMultiDict
from yarl import URL


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it stood on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, url: str, trust: ssl.SSLContext | None = None) -> None:
        self._url = URL(url)
        self._trust = trust
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            self._url.host, self._url.port, ssl=self._trust
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    async def send(self, *data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def request(
        self, method: str, path: str, *fields: str, version: str = "1.1", body: bytes = b""
    ) -> None:
        """Send a head with `Host` and these fields, and a body as it is."""
        lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *fields, "", ""]
        await self.send("\r\n".join(lines).encode(), body)

    async def answer(self, *, head_only: bool = False) -> Raw:
        """Read one answer. Raises IncompleteReadError when the connection ends before it does."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                headers.add(name, value.strip())
        status = int(first.split(" ")[1])
        empty = head_only or status in {100, 204, 304}
        length = 0 if empty else int(headers["Content-Length"])
        return Raw(status, headers, await self.reader.readexactly(length))

    async def closed(self, within: float = 60.0) -> bytes:
        """Wait until the other side ends the connection, and return what came before."""
        async with asyncio.timeout(within):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.writer.transport.abort()
