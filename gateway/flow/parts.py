"""A stream of known size into a store, part by part, through a bounded number of buffers.

Guarantees that nothing is visible before `publish`, that at most `parallel` parts are on their way while
one more fills, and that what was begun is thrown away if it is not published. Knows neither where the
bytes come from nor whether they are right.
"""

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from awscrt.checksums import crc64nvme

from gateway.errors import StoreError, first
from gateway.pacing.rate import Rate
from gateway.ports import PartUpload, Piece, Store

MOST = 9_999  # parts of an object
ROUND = 64 * 1024
SMALL = 512 * 1024
KEPT = 8  # parts' worth of buffers for the next object
WHOLE = 2  # parts that are sent as one object: a multipart upload costs three requests more
PATIENCE = 10.0  # seconds for throwing parts away


class Parts:
    """One object on its way, as a context around what fills and publishes it."""

    def __init__(
        self,
        store: Store,
        key: str,
        size: int,
        *,
        part_size: int,
        parallel: int,
        rate: Rate,
        spare: list[bytearray] | None = None,
        blank: bool = False,
    ) -> None:
        self._store = store
        self._key = key
        self._part = max(part_size, -(-size // MOST // ROUND) * ROUND)
        self._size = size
        self._single = size <= WHOLE * self._part
        self._rate = rate
        self._spare = [] if spare is None else spare  # shared with other objects
        self._blank = blank  # nobody left anything behind here
        self._unit = part_size
        self._single_buffer: bytearray | None = None
        self._parallel = parallel
        self._upload: PartUpload | None = None
        self._whole: Piece | None = None
        self._published = False

    @property
    def memory(self) -> int:
        """How many bytes its buffers hold at most."""
        return self._size if self._single else self._part * (self._parallel + 1)

    async def __aenter__(self) -> Self:
        if not self._single:
            await self._rate.take(0, 2)
            if not self._blank:
                async for other in self._store.unfinished(self._key):
                    await self._store.discard(other)  # what somebody left behind here
            self._upload = await self._store.begin(self._key)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._upload is not None and not self._published:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._upload.abort()

    async def fill(self, pieces: AsyncIterable[bytes | memoryview]) -> None:
        """Send all of a stream; again from the first byte if it is called again.

        Raises what the stream raises, and the StoreErrors of the store.
        """
        try:
            if self._upload is None:
                await self._keep(pieces)
            else:
                await self._send_all(self._upload, pieces)
        except ExceptionGroup as group:
            raise first(group) from None

    async def publish(self) -> None:
        """Make it visible. Raises ObjectExists and other StoreErrors of the store."""
        await self._rate.take(0, 1)
        if self._upload is not None:
            await self._upload.complete()
        elif self._whole is not None:
            await self._store.put(self._key, self._whole)
            self._put_back(self._single_buffer)
        self._published = True

    async def _keep(self, pieces: AsyncIterable[bytes | memoryview]) -> None:
        """Keep a body of one part until it is published."""
        # A new buffer costs more than a used one, but a small body does not need a large one.
        large = -(-self._size // self._unit) * self._unit
        buffer = self._buffer(large) if self._size >= SMALL else bytearray(self._size)
        self._single_buffer = buffer
        data, used = memoryview(buffer)[: self._size], 0
        async for piece in pieces:
            data[used : used + len(piece)] = piece
            used += len(piece)
        self._whole = Piece(data, crc64nvme(data))

    async def _send_all(
        self, upload: PartUpload, pieces: AsyncIterable[bytes | memoryview]
    ) -> None:
        slots = asyncio.Semaphore(
            self._parallel
        )  # of this try: those of tasks never begun are lost

        async def send(number: int, buffer: bytearray, used: int) -> None:
            try:
                data = memoryview(buffer)[:used]
                await self._rate.take(0, 1)
                await upload.part(number, Piece(data, crc64nvme(data)))
                self._put_back(buffer)  # not after a failure: a transport may still look at it
            finally:
                slots.release()

        async with asyncio.TaskGroup() as sends:
            number, used = 1, 0
            buffer = self._buffer(self._part)
            async for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    step = rest[: self._part - used]
                    buffer[used : used + len(step)] = step
                    used += len(step)
                    rest = rest[len(step) :]
                    if used == self._part:
                        await slots.acquire()
                        sends.create_task(send(number, buffer, used))
                        number, used = number + 1, 0
                        buffer = self._buffer(self._part)
            if used:
                await slots.acquire()
                sends.create_task(send(number, buffer, used))
            else:
                self._put_back(buffer)

    def _buffer(self, size: int) -> bytearray:
        for number, buffer in enumerate(self._spare):
            if len(buffer) == size:
                return self._spare.pop(number)
        return bytearray(size)

    def _put_back(self, buffer: bytearray | None) -> None:
        """Keep a buffer that nobody looks at any more for the next object."""
        if buffer is None or len(buffer) not in {self._unit, WHOLE * self._unit}:
            return
        if sum(map(len, self._spare)) + len(buffer) <= KEPT * self._unit:
            self._spare.append(buffer)
