"""Ciphertext part buffers, reused so that a stream costs no allocation and a bounded share of memory.

Guarantees that a buffer goes back to the pool only once every holder has let go of it and none of
them failed while sending it: a broken transport may still look at the bytes. Does not limit how many
are out; `replication.Fan` does, per upload.
"""

from collections.abc import Callable

from awscrt.checksums import crc64nvme

from gateway.ports import Piece

SLACK = 256 * 1024  # what one write may run past the part size, before it is carried over


class Pool:
    """A free list of equal buffers of `size` + SLACK bytes; keeps at most `keep` when idle."""

    def __init__(self, size: int, keep: int = 8) -> None:
        self.size = size
        self._keep = keep
        self._free: list[bytearray] = []

    @property
    def idle(self) -> int:
        """How many buffers lie ready."""
        return len(self._free)

    def draw(self, size: int) -> bytearray:
        """Return a buffer with room for `size` + SLACK bytes, its content undefined."""
        if size == self.size and self._free:
            return self._free.pop()
        return bytearray(size + SLACK)

    def put_back(self, data: bytearray) -> None:
        """Keep a buffer for the next draw, if it has the common size and there is room."""
        if len(data) == self.size + SLACK and len(self._free) < self._keep:
            self._free.append(data)


class Load:
    """One buffer on its way to several targets: filled by the pump, held by lanes until sent."""

    def __init__(self, data: bytearray, pool: Pool, freed: Callable[[], None]) -> None:
        self.view = memoryview(data)
        self.used = 0
        self._data = data
        self._pool = pool
        self._freed = freed
        self._holders = 1
        self._tainted = False
        self._piece: Piece | None = None

    @property
    def piece(self) -> Piece:
        """The filled bytes with their checksum, computed once for all targets."""
        if self._piece is None:
            filled = self.view[: self.used]
            self._piece = Piece(filled, crc64nvme(filled))
        return self._piece

    def hold(self) -> None:
        """Count one more holder."""
        self._holders += 1

    def release(self, *, tainted: bool = False) -> None:
        """Let go. The last holder gives the buffer back, unless anyone's transport may still read it."""
        self._tainted = self._tainted or tainted
        self._holders -= 1
        if self._holders:
            return
        if not self._tainted:
            self._pool.put_back(self._data)
        self._freed()
