"""Ciphertext part buffers, reused so that a stream costs no allocation and a bounded share of memory.

Guarantees that the parts of all uploads together hold no more than `budget` bytes; that an owner who has
some gets no more than is left free then, so that one has half of it at most, and two three quarters; and
that a buffer goes back to the pool only once every holder has let go of it and none of them failed while
sending it: a broken transport may still look at the bytes. Buffers smaller than a part are not counted; how
many there are is bounded by how many streams are admitted.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from awscrt.checksums import crc64nvme

from gateway.errors import Busy
from gateway.ports import Piece

SLACK = 128 * 1024  # what one write may run past the part size, before it is carried over


class Pool:
    """Buffers of `size` + SLACK bytes and more; keeps at most `keep` of the common size when idle."""

    def __init__(self, size: int, budget: int, *, keep: int = 8, patience: float = 10.0) -> None:
        self.size = size
        self._budget = budget
        self._keep = keep
        self._patience = patience
        self._free: list[bytearray] = []
        self._out: Counter[str] = Counter()
        self._room = asyncio.Event()

    @property
    def idle(self) -> int:
        """How many buffers lie ready."""
        return len(self._free)

    async def draw(self, size: int, owner: str) -> bytearray:
        """Return a buffer with room for `size` + SLACK bytes, its content undefined.

        Waits while the budget, or the owner's share of it, is spent; raises Busy when it stays so.
        """
        if size < self.size:
            return bytearray(size + SLACK)
        try:
            async with asyncio.timeout(self._patience):
                while not self._fits(size, owner):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise Busy("uploads hold as much memory as they may; try again") from None
        self._out[owner] += size
        if size == self.size and self._free:
            return self._free.pop()
        return bytearray(size + SLACK)

    def _fits(self, size: int, owner: str) -> bool:
        all_out, own = self._out.total(), self._out[owner]
        left = self._budget - all_out - size
        return (not all_out or left >= 0) and (not own or own + size <= left)

    def put_back(self, data: bytearray, owner: str, *, tainted: bool) -> None:
        """Take a buffer back; keep it for the next draw if it is of the common size and untainted."""
        size = len(data) - SLACK
        if size < self.size:
            return
        self._out[owner] -= size
        if not self._out[owner]:
            del self._out[owner]
        self._room.set()
        if not tainted and size == self.size and len(self._free) < self._keep:
            self._free.append(data)


class Load:
    """One buffer on its way to several targets: filled by the pump, held by lanes until sent."""

    def __init__(
        self, data: bytearray, pool: Pool, owner: str, freed: "Callable[[Load], None]"
    ) -> None:
        self.view = memoryview(data)
        self.used = 0
        self._data = data
        self._pool = pool
        self._owner = owner
        self._freed = freed
        self._holders = 1
        self._tainted = False
        self._sum = 0
        self._summed = 0
        self._piece: Piece | None = None

    @property
    def piece(self) -> Piece:
        """The filled bytes with their checksum, computed once for all targets."""
        if self._piece is None:
            self.sum_up(self.used)
            self._piece = Piece(self.view[: self.used], self._sum)
        return self._piece

    def sum_up(self, stop: int) -> None:
        """Carry the checksum on to there: best while the bytes are in the processor's cache."""
        self._sum = crc64nvme(self.view[self._summed : stop], self._sum)
        self._summed = stop

    def hold(self) -> None:
        """Count one more holder."""
        self._holders += 1

    def release(self, *, tainted: bool = False) -> None:
        """Let go. The last holder gives the buffer back, unless anyone's transport may still read it."""
        self._tainted = self._tainted or tainted
        self._holders -= 1
        if self._holders == 0:
            self._pool.put_back(self._data, self._owner, tainted=self._tainted)
            self._freed(self)

    def abandon(self) -> None:
        """Let go for everyone: who held it is gone without a word."""
        self._holders = min(self._holders, 1)
        if self._holders:
            self.release(tainted=True)
