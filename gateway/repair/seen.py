"""Which of very many things were seen, within bounded memory.

Guarantees that what was added is found again and that what was not is not, but for two things with one
64-bit hash, salted anew in each process; and that no more than `room` are remembered: beyond that half of
all there may be are left out, by a bit of their hash, for a pass of their own. 16 to 32 bytes each.
"""

import asyncio
from array import array
from collections.abc import Hashable, Iterator
from typing import Final

_TABLES: Final = 256  # small ones, so that none takes long to grow
_BITS: Final = 20  # of a hash that may tell parts; the next ones tell the table
_FULL: Final = 1 << 63  # set in every hash, so that none is 0


class Seen:
    """Remembers those whose hash ends in the `bits` low bits of `part`. See the module."""

    def __init__(self, room: int, part: int = 0, bits: int = 0) -> None:
        self.left: list[tuple[int, int]] = []  # parts and bits of those that were left out
        self._room = room
        self._part = part
        self._bits = bits
        self._tables = [_Table() for _ in range(_TABLES)]
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether `halve` is due."""
        return self._count >= self._room and self._bits < _BITS

    def takes(self, thing: Hashable) -> bool:
        """Tell whether a thing is in the part that is remembered."""
        return hash(thing) & ((1 << self._bits) - 1) == self._part

    def add(self, thing: Hashable) -> None:
        """Remember a thing, if it is in the part."""
        if self.takes(thing):
            self._put(hash(thing) | _FULL)

    def __contains__(self, thing: Hashable) -> bool:
        """Tell whether a thing of the part was added."""
        key = hash(thing) | _FULL
        return (key & _WORD) in self._tables[(key >> _BITS) % _TABLES]

    async def halve(self) -> None:
        """Leave half of it out; `left` says which."""
        self.left.append((self._part | 1 << self._bits, self._bits + 1))
        self._bits += 1
        self._count = 0
        mask = (1 << self._bits) - 1
        for number, old in enumerate(self._tables):
            self._tables[number] = new = _Table()
            for key in old:
                if key & mask == self._part:
                    self._count += new.add(key)
            await asyncio.sleep(0)

    def _put(self, key: int) -> None:
        self._count += self._tables[(key >> _BITS) % _TABLES].add(key & _WORD)


_WORD: Final = (1 << 64) - 1


class _Table:
    """Open addressing with linear probing, at most half full."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 8))
        self._count = 0

    def __iter__(self) -> Iterator[int]:
        return (key for key in self._slots if key)

    def __contains__(self, key: int) -> bool:
        return self._slots[self._slot(key)] == key

    def add(self, key: int) -> bool:
        """Add a key; False if it was there."""
        slot = self._slot(key)
        if self._slots[slot] == key:
            return False
        self._slots[slot] = key
        self._count += 1
        if 2 * self._count > len(self._slots):
            keys = list(self)
            self._slots = array("Q", bytes(16 * len(self._slots)))
            for each in keys:
                self._slots[self._slot(each)] = each
        return True

    def _slot(self, key: int) -> int:
        """Return where a key is, or belongs."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = (key >> (_BITS + 8)) & mask
        while (found := slots[slot]) and found != key:
            slot = (slot + 1) & mask
        return slot
