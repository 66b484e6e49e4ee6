"""The body of a request, read from the connection straight into a buffer of ours.

aiohttp copies each byte twice on its way to the handler, and stops and starts the connection every 128
KiB. So the rest of a body whose length is declared is read past it: the connection is taken over once
the head is parsed, and given back at the end of the body with a parser that expects the next request.
What a handler leaves unread is thrown away as it comes, for as long as aiohttp waits for it.
"""

import asyncio
from typing import Protocol, runtime_checkable

from aiohttp import StreamReader, web

BLOCK = 2 * 1024 * 1024  # bytes; what a turn of the loop costs is paid once for what has come
WORTH = 64 * 1024  # bytes that must be missing for it to pay


@runtime_checkable
class Host(Protocol):
    """A connection that can be taken over for a while."""

    def in_body(self) -> bool:
        """Tell whether all that has come was handed on, and what comes next is of the body alone."""
        ...

    def expect_request(self) -> None:
        """Parse what comes next as the beginning of a request."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""

    def eof_received(self) -> None:
        """See asyncio.Protocol."""

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""


def take_over(request: web.Request, missing: int) -> "Straight | None":
    """Take the connection for the `missing` bytes of the body, if that is possible and pays.

    There must be nothing left to read in the request's content.
    """
    host, transport = request.protocol, request.transport
    if missing < WORTH or transport is None or not isinstance(host, Host) or not host.in_body():
        return None
    return Straight(host, transport, request.content, missing)


class Straight(asyncio.BufferedProtocol):
    """The rest of a body, while the connection is ours."""

    def __init__(
        self, host: Host, transport: asyncio.Transport, content: StreamReader, missing: int
    ) -> None:
        self.left = missing  # bytes that were not handed out
        self._missing = missing  # bytes that have not come
        self._host = host
        self._transport = transport
        self._content = content
        self._room = memoryview(bytearray(min(BLOCK, missing)))
        self._filled = 0
        self._given = False  # whether the room is the reader's, so that nothing may be read to it
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._unread = False
        transport.set_protocol(self)
        transport.resume_reading()

    async def block(self) -> memoryview:
        """Return what has come, at least a byte; good until the next call.

        Raises ConnectionResetError when the client leaves before its body ends.
        """
        if self._given:
            self._given, self._filled = False, 0
            self._read_on()
        if not self._filled:
            if self._lost:
                raise ConnectionResetError
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        block, self._given = self._room[: self._filled], True
        self.left -= len(block)
        if not self.left:
            self._give_back()
        elif not self._transport.is_closing():
            self._transport.pause_reading()
        return block

    def end(self) -> None:
        """Let go of the connection; what is left of the body is not wanted."""
        if not self.left or self._lost:
            return
        self._unread = True
        self._filled = 0
        if self._missing:
            self._read_on()
        else:
            self._give_back()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the size is ours to choose
        """Return where to read to, never beyond the body."""
        return self._room[self._filled :][: self._missing]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._missing -= nbytes
        if self._unread:
            if not self._missing:
                self._transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._give_back)
            return
        self._filled += nbytes
        if not self._missing or self._filled == len(self._room):
            self._transport.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def eof_received(self) -> None:
        """Pass on: the connection closes."""
        self._host.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell who waits, and aiohttp, which cancels the request."""
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError())
        self._host.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._host.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._host.resume_writing()

    def _read_on(self) -> None:
        if not self._transport.is_closing():  # its end is told in a moment
            self._transport.resume_reading()

    def _give_back(self) -> None:
        if self._lost:
            return
        self._host.expect_request()
        self._transport.set_protocol(self._host)  # type: ignore[arg-type]  # an asyncio.Protocol
        self._content.feed_eof()
