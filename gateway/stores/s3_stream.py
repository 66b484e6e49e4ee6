"""The body of an answer, read from the connection straight into memory of ours.

aiohttp copies each byte twice on its way to the reader, in the loop and in its parser, and stops and
starts the connection every 128 KiB. So once it has read the head, and the length of the body is known,
the connection is taken from it, read into blocks, and given back at the end of the body, as good for the
next request as if aiohttp had read it. A body that is not read to its end takes its connection with it.
A block is its reader's for as long as he holds it; its memory is used again once he does not.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from aiohttp import ClientResponse, StreamReader

from gateway.errors import StoreUnavailable

BLOCK = 1024 * 1024  # bytes; smaller ones cost more turns of the loop, larger ones leave the cache
KEPT = 4  # blocks that a body uses again; a reader who lets go of each in turn needs two or three


async def read_body(
    response: ClientResponse, length: int, stall: float
) -> AsyncGenerator[bytes | memoryview]:
    """Stream the first `length` bytes of a body whose content length is at least that.

    Raises StoreUnavailable when it ends early, or when nothing comes for the stall time.
    """
    begun = []
    while length and (data := response.content.read_nowait()[:length]):
        begun.append(data)
        length -= len(data)
    # Nothing may be awaited between the last look for data and here.
    rest = _Rest(response, length, stall) if length else None
    try:
        for data in begun:
            yield data
        while rest is not None and rest.left:
            yield await rest.block()
    finally:
        if rest is not None:
            rest.end()


class _Rest(asyncio.BufferedProtocol):
    """What is left of a body, for as long as its connection is ours."""

    def __init__(self, response: ClientResponse, length: int, stall: float) -> None:
        connection = response.connection
        if connection is None or connection.protocol is None or connection.transport is None:
            raise StoreUnavailable("the store ended its answer early")
        self.left = length  # bytes that were not handed out
        self._missing = length  # bytes that have not come
        self._more = response.content_length != response.content.total_bytes + length
        self._content: StreamReader = response.content
        self._stall = stall
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._blocks: list[bytearray] = []  # to be used again, given out or not
        self._clear()
        self._before = connection.protocol
        self._before.read_timeout = None  # it would miss what comes here; a request sets it anew
        self._before.start_timeout()
        self._transport = connection.transport
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    async def block(self) -> memoryview:
        """Return what has come, at least a byte."""
        if not self._filled:
            await self._wait()
        block, paused = self._room[: self._filled], self._filled == len(self._room)
        self.left -= len(block)
        if self._missing:
            self._clear()
            if paused:
                self._transport.resume_reading()
        return block

    def end(self) -> None:
        """Give the connection back, or cut it if more of the body may come."""
        if self.left or self._more:
            self._transport.abort()
        else:
            self._transport.set_protocol(self._before)
            self._content.feed_eof()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the size is ours to choose
        """Return where to read to."""
        return self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._filled += nbytes
        self._missing -= nbytes
        if self._filled == len(self._room):
            self._transport.pause_reading()
        self._wake(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader, once it has read what came, and aiohttp."""
        self._lost = True
        self._wake(StoreUnavailable("the store ended its answer early"))
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._before.resume_writing()

    def _clear(self) -> None:
        self._room = memoryview(self._unused())[: self._missing]
        self._filled = 0

    def _unused(self) -> bytearray:
        """Return a block that nobody looks at, an earlier one if possible: a new one has to be zeroed."""
        for block in self._blocks:
            with contextlib.suppress(
                BufferError
            ):  # its size cannot change while somebody looks at it
                block.append(block.pop())
                return block
        block = bytearray(min(BLOCK, self._missing))
        if len(self._blocks) < KEPT:
            self._blocks.append(block)
        return block

    async def _wait(self) -> None:
        if self._lost:
            raise StoreUnavailable("the store ended its answer early")
        self._waiter = self._loop.create_future()
        silent = StoreUnavailable("the store sent nothing for too long")
        timer = self._loop.call_later(self._stall, self._wake, silent)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _wake(self, error: StoreUnavailable | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
