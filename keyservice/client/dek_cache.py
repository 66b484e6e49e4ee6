"""Opened data keys, kept by a client for a short time, and which tenants' keys may be used.

Guarantees: bounded in number and in time, the client's and the one that the key service allowed for that
tenant; found only under the same tenant, context and wrapped key; no other key is kept. The time runs
from before the request was sent, so a revocation is never outlived by more than the tenant's time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from keyservice.wire import WrappedKey


class DekCache:
    """At most `size` keys for `ttl` seconds each; 0 of either keeps nothing."""

    def __init__(self, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._usable: OrderedDict[str, float] = OrderedDict()
        self._entries: OrderedDict[tuple[str, WrappedKey], tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"DekCache({len(self._entries)} keys)"

    def now(self) -> float:
        """Return the time to give to `put`, taken before the request."""
        return self._clock()

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

    def put(self, tenant: str, key: WrappedKey, dek: bytes, until: float) -> None:
        """Keep the key until then."""
        if until <= self._clock():
            return
        self._entries[tenant, key] = (until, dek)
        self._entries.move_to_end((tenant, key))
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def until(self, asked: float, fresh: float) -> float:
        """Return how long an answer to what was asked at that time may be kept."""
        return asked + min(self._ttl, fresh)

    def usable(self, tenant: str) -> bool:
        """Say whether it is known, and may still be believed, that the tenant's keys may be used."""
        return self._usable.get(tenant, float("-inf")) > self._clock()

    def used(self, tenant: str, until: float) -> None:
        """Remember until then that the tenant's keys may be used."""
        self._usable[tenant] = max(until, self._usable.get(tenant, until))
        self._usable.move_to_end(tenant)
        while len(self._usable) > self._size:
            self._usable.popitem(last=False)

    def forget(self, tenant: str) -> None:
        """Drop every key of the tenant, and that they may be used."""
        self._usable.pop(tenant, None)
        for entry in [entry for entry in self._entries if entry[0] == tenant]:
            del self._entries[entry]

    def clear(self) -> None:
        """Drop everything."""
        self._usable.clear()
        self._entries.clear()
