"""Opened data keys, kept by a client for a short time, and which tenants' keys may be used.

Guarantees: bounded in number and in time, the client's and the one that the key service allowed for that
tenant; found only under the same tenant, context and wrapped key; no other key is kept. The time runs
from before the request was sent, so a revocation is never outlived by more than the tenant's time. What was
asked for before a tenant was forgotten does not come in after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from keyservice.wire import WrappedKey


@dataclass(frozen=True, slots=True)
class Asked:
    """When something was asked for: the time, and how often a tenant had been forgotten by then."""

    at: float
    turn: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Until when an answer may be kept, unless its tenant was forgotten after that turn."""

    until: float
    turn: int


class DekCache:
    """At most `size` keys for `ttl` seconds each; 0 of either keeps nothing."""

    def __init__(self, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._turn = 0
        self._cleared = 0  # the turn in which every tenant was forgotten last
        self._forgotten: OrderedDict[str, int] = OrderedDict()  # in which turn, of each since
        self._usable: OrderedDict[str, float] = OrderedDict()
        self._entries: OrderedDict[tuple[str, WrappedKey], tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"DekCache({len(self._entries)} keys)"

    def now(self) -> Asked:
        """Return what to give to `until`, taken before the request."""
        return Asked(self._clock(), self._turn)

    def get(self, tenant: str, key: WrappedKey) -> bytes | None:
        """Return the opened key, None when it is not kept or its time is over."""
        entry = self._entries.get((tenant, key))
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._entries[tenant, key]
            return None
        self._entries.move_to_end((tenant, key))
        return entry[1]

    def put(self, tenant: str, key: WrappedKey, dek: bytes, kept: Kept) -> None:
        """Keep the key until then."""
        if kept.until <= self._clock() or self._is_over(tenant, kept):
            return
        self._entries[tenant, key] = (kept.until, dek)
        self._entries.move_to_end((tenant, key))
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def until(self, asked: Asked, fresh: float) -> Kept:
        """Return how long an answer to what was asked at that time may be kept."""
        return Kept(asked.at + min(self._ttl, fresh), asked.turn)

    def usable(self, tenant: str) -> bool:
        """Say whether it is known, and may still be believed, that the tenant's keys may be used."""
        return self._usable.get(tenant, float("-inf")) > self._clock()

    def used(self, tenant: str, kept: Kept) -> None:
        """Remember until then that the tenant's keys may be used."""
        if self._is_over(tenant, kept):
            return
        self._usable[tenant] = max(kept.until, self._usable.get(tenant, kept.until))
        self._usable.move_to_end(tenant)
        while len(self._usable) > self._size:
            self._usable.popitem(last=False)

    def forget(self, tenant: str) -> None:
        """Drop every key of the tenant, and that they may be used, also what is on its way."""
        self._turn += 1
        self._forgotten[tenant] = self._turn
        self._forgotten.move_to_end(tenant)
        if (
            len(self._forgotten) > self._size
        ):  # who was forgotten is forgotten: then it was all of them
            _, self._cleared = self._forgotten.popitem(last=False)
        self._usable.pop(tenant, None)
        for entry in [entry for entry in self._entries if entry[0] == tenant]:
            del self._entries[entry]

    def clear(self) -> None:
        """Drop everything, also what is on its way."""
        self._turn += 1
        self._cleared = self._turn
        self._forgotten.clear()
        self._usable.clear()
        self._entries.clear()

    def _is_over(self, tenant: str, kept: Kept) -> bool:
        """Say whether the tenant was forgotten since the answer was asked for."""
        return kept.turn < max(self._cleared, self._forgotten.get(tenant, 0))
