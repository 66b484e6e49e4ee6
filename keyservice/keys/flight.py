"""A bounded cache whose misses are loaded once, however many callers wait.

Guarantees: at most one load runs for a key at a time, unless it was dropped meanwhile; a failure
reaches those who waited for it and is not kept; a caller who is cancelled takes nobody down with it: if
it was the one loading, another waiter loads instead. Entries end at the deadline that their load
returned, on the monotonic clock. It starts no task of its own. It does not decide what may be cached:
a key must hold everything the value depends on.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[V]):
    """A value and the monotonic time, in seconds, at which it ends."""

    value: V = field(repr=False)
    deadline: float


class FlightCache(Generic[K, V]):
    """At most `capacity` loaded values; the least recently used leaves first."""

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1:
            raise ValueError("cache capacity must be at least 1")
        self._capacity = capacity
        self._clock = clock
        self._entries: OrderedDict[K, Loaded[V]] = OrderedDict()
        self._flights: dict[K, asyncio.Future[Loaded[V]]] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: K, load: Callable[[], Awaitable[Loaded[V]]]) -> Loaded[V]:
        """Return what is cached for the key, or load it; raises what the load raises."""
        while True:
            cached = self._fresh(key)
            if cached is not None:
                self.hits += 1
                return cached
            flight = self._flights.get(key)
            if flight is None:
                self.misses += 1
                return await self._lead(key, load)
            # wait() neither cancels the flight with us nor raises its outcome here.
            await asyncio.wait([flight])
            if not flight.cancelled():
                return flight.result()

    def drop(self, unwanted: Callable[[K], bool]) -> None:
        """Forget what is cached under such keys; a load under way is not kept, nor joined any more."""
        for key in [key for key in self._entries if unwanted(key)]:
            del self._entries[key]
        for key in [key for key in self._flights if unwanted(key)]:
            del self._flights[key]

    def discard(self, key: K, seen: Loaded[V]) -> None:
        """Forget the entry if it still is the one that was seen."""
        if self._entries.get(key) is seen:
            del self._entries[key]

    def has_fresh(self) -> bool:
        """Say whether anything at all could be served without a load."""
        now = self._clock()
        return any(entry.deadline > now for entry in self._entries.values())

    def _fresh(self, key: K) -> Loaded[V] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.deadline <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry

    async def _lead(self, key: K, load: Callable[[], Awaitable[Loaded[V]]]) -> Loaded[V]:
        flight: asyncio.Future[Loaded[V]] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            loaded = await load()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # seen: with no waiter there is nothing to warn about
            raise
        else:
            flight.set_result(loaded)
            if self._flights.get(key) is flight:
                self._keep(key, loaded)
            return loaded
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def _keep(self, key: K, loaded: Loaded[V]) -> None:
        if loaded.deadline <= self._clock():
            return
        self._entries[key] = loaded
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
