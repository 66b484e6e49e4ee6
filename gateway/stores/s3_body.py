"""A request body that aiohttp sends without copying it, and that does not wait for ever.

aiohttp joins head and body into one write where writing several at once is not safe, and keeps no
time while it writes. Here a large body goes out after the head, straight from the caller's memory, and
a connection that takes nothing for the stall time is cut. A body that is refused or given up takes its
connection with it: nothing of it is sent later, out of memory that the caller uses again, or read as
another request.
"""

import asyncio
from typing import NoReturn

from aiohttp import ClientResponse, payload
from aiohttp.abc import AbstractStreamWriter

JOINED = 16 * 1024  # up to here one packet with the head is worth the copy
SLICE = 512 * 1024  # over TLS, which encrypts a whole write at once


class Body(payload.Payload):
    """Bytes in memory that belong to somebody else. May be sent again."""

    _autoclose = True

    def __init__(self, data: memoryview, stall: float) -> None:
        super().__init__(data)
        self._size = len(data)
        self._data = data
        self._stall = stall
        self._transport: asyncio.WriteTransport | None = None
        self.times = 0  # that it was sent, or partly sent

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it. Fails when the other side takes nothing for the stall time."""
        self.times += 1
        transport = self._transport = writer.transport
        if transport is None or len(self._data) <= JOINED:
            await writer.write(self._data)
            return
        writer.send_headers()
        tls = transport.get_extra_info("sslcontext") is not None
        size = SLICE if tls else len(self._data)
        watch = _Watch(transport, self._stall)
        try:
            for start in range(0, len(self._data), size):
                await asyncio.sleep(0)  # an early refusal is seen before more is written
                await writer.write(self._data[start : start + size])
        finally:
            watch.stop()

    def leave(self, response: ClientResponse) -> None:
        """See to it that a connection is not used again whose other end may not have read the body.

        A server that refused early might take what is left of the body for the next request. To be
        called at once when the answer is there: until then nobody else can have the connection.
        """
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.force_close()
        elif self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Cut the connection if it still holds bytes of this body."""
        transport, self._transport = self._transport, None
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()

    def decode(
        self,
        encoding: str = "utf-8",  # noqa: ARG002 - the base class asks for both
        errors: str = "strict",  # noqa: ARG002
    ) -> NoReturn:
        """Refuse: what it holds is ciphertext."""
        raise TypeError("a body of ciphertext has no text")


class _Watch:
    """Cuts a connection whose unsent bytes do not grow fewer."""

    def __init__(self, transport: asyncio.WriteTransport, stall: float) -> None:
        self._transport = transport
        self._pause = stall / 2
        self._unsent = -1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._pause, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self._transport.abort()
            return
        self._unsent = unsent
        self._timer = self._loop.call_later(self._pause, self._look)
