"""Clients that are slow or rude: one socket, with small buffers of its own.

The segments are as small as those of a real network: on loopback a segment may have 64 KiB, and a
receiver tells that it has room only when a whole one fits.
"""

import asyncio
import socket
import struct
from typing import Self

_SEGMENT = 1400
_BUFFER = 16 * 1024


class Cut(Exception):
    """The gateway ended the connection."""


class Peer:
    """One connection to a gateway."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        self.received = 0

    async def connect(self, port: int) -> Self:
        """Connect."""
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", port))
        return self

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises Cut."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except ConnectionError:
            raise Cut from None

    async def request(self, method: str, path: str, token: str, *fields: str) -> None:
        """Send the head of a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *fields]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def take(self, most: int) -> bytes:
        """Wait for some bytes and return them. Raises Cut."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, most)
        except ConnectionError:
            raise Cut from None
        if not data:
            raise Cut
        self.received += len(data)
        return data

    async def head(self) -> int:
        """Read the head of the answer and return its status."""
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            text += await self.take(1)
        return int(text.split(b" ")[1])

    async def until_cut(self) -> bytes:
        """Read until the gateway ends the connection; return what came."""
        text = b""
        try:
            while True:
                text += await self.take(65536)
        except Cut:
            return text

    def close(self) -> None:
        """End the connection as a program does that finished."""
        self._socket.close()

    def drop(self) -> None:
        """End the connection without a farewell: what is under way is lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
