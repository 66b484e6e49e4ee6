"""Plaintext in, ciphertext parts out: the one loop that every uploaded byte passes.

Guarantees back-pressure (the source is read only while the fan has a free buffer), one copy of the
plaintext at most (the sealer writes straight into the part), parts of equal size but the last, and a
refusal as soon as the body is larger than allowed. Does not know targets, keys or HTTP.
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass

from envelope.segment import SegmentSealer, sealed_size
from gateway.errors import Disconnected, TooLarge
from gateway.flow.buffers import Load
from gateway.flow.digests import Digests
from gateway.flow.replication import Fan

MiB = 1024 * 1024
WRITE = 64 * 1024  # plaintext bytes that may be sealed past a part's end: they fit into the slack
SPARE = 32 * 1024  # by how much the last part may be larger, instead of one more of next to nothing
EQUAL_PARTS = 2000  # parts of unknown length before they grow, so that 10,000 reach past 1 TiB
GROWTH = 32 * 1024
FIRST = 128 * 1024  # the first buffer of a body, which grows as it comes: until it is a part
GROW = 8
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class PumpSettings:
    """Sizes in bytes: a part, the largest body that travels inline, the largest attachment."""

    part_size: int = 8 * MiB
    inline: int = 64 * 1024
    max_size: int = 1024 * 1024 * MiB

    def part(self, number: int, declared: int | None) -> int:
        """Return the size of part `number`: equal when the length is declared, else slowly growing."""
        if declared is not None:
            fitting = -(-sealed_size(declared) // (MAX_PARTS - 1))
            return max(self.part_size, -(-fitting // WRITE) * WRITE)
        return self.part_size + max(0, number - EQUAL_PARTS) * GROWTH


class Pump:
    """Seals one body, as one segment, into a fan."""

    def __init__(
        self, settings: PumpSettings, sealer: SegmentSealer, fan: Fan, *, declared: int | None
    ) -> None:
        if declared is not None and declared > settings.max_size:
            raise TooLarge(f"attachments are limited to {settings.max_size} bytes")
        self._settings = settings
        self._sealer = sealer
        self._fan = fan
        self._declared = declared
        self._number = 1
        self._left = None if declared is None else sealed_size(declared)  # in this part and later
        self._part = settings.part(1, declared)
        self._limit = min(self._part, FIRST)
        self._inline = sealed_size(settings.inline)

    async def run(
        self, source: AsyncIterable[bytes | memoryview], digests: Digests
    ) -> bytes | None:
        """Pump the whole source; return the sealed body if it is to travel inline, else None."""
        load = await self._fan.take(self._limit)
        size = 0
        async for data in source:
            size += len(data)
            if size > self._settings.max_size:
                raise TooLarge(f"attachments are limited to {self._settings.max_size} bytes")
            if self._declared is not None and size > self._declared:
                raise Disconnected("the body is longer than it was declared")
            digests.update(data)
            view = memoryview(data)
            while view:
                step = max(WRITE, self._limit - load.used)
                load = await self._write(load, view[:step])
                view = view[step:]
        if self._declared is not None and size < self._declared:
            raise Disconnected("the body is not as long as it was declared")
        tail = self._sealer.finalize()
        load.view[load.used : load.used + len(tail)] = tail
        load.used += len(tail)
        if self._number == 1 and size <= self._settings.inline:
            inline = bytes(load.view[: load.used])
            load.release()
            return inline
        self._fan.send_last(load)
        return None

    async def _write(self, load: Load, data: memoryview) -> Load:
        load.used += self._sealer.update_into(data, load.view[load.used :])
        if load.used > self._inline:  # else it may travel inline, and is summed with the envelope
            load.sum_up(min(load.used, self._part))  # what lies beyond may be carried over
        if load.used < self._limit:
            return load
        if self._limit < self._part:
            return await self._grow(load)
        self._number += 1
        over = bytes(load.view[self._part : load.used])
        load.used = self._part
        if self._left is not None:
            self._left -= self._part
        self._part = self._settings.part(self._number, self._declared)
        self._limit = self._end()
        self._fan.send(load)
        return await self._filled(self._part, over)

    def _end(self) -> int:
        """Return the size at which the part is cut: it takes along a rest that fits into its slack."""
        last = self._left is not None and self._left <= self._part + SPARE
        return self._part + SPARE if last else self._part

    async def _grow(self, load: Load) -> Load:
        """Move the beginning of the first part to a larger buffer, so that small bodies stay small."""
        size = min(self._left or self._limit * GROW, self._part)
        self._limit = self._end() if size == self._part else size
        begun = bytes(load.view[: load.used])
        load.release()
        return await self._filled(size, begun)

    async def _filled(self, size: int, begun: bytes) -> Load:
        """Return a buffer that begins with these bytes."""
        load = await self._fan.take(size)
        load.view[: len(begun)] = begun
        load.used = len(begun)
        return load
