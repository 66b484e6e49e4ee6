"""Rates as buckets: what was taken is paid off over time.

A request is let in whole while any credit is left and is paid off afterwards, so that a batch larger than the
burst is slowed and not impossible. Bounded in number; the one that was longest untouched is forgotten
first, which gives its owner a full one. Each instance counts for itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from keyservice.errors import Throttled

MAX_BUCKETS = 100_000


@dataclass(slots=True)
class _Bucket:
    level: float
    time: float


class Buckets:
    """What each key has spent of its rate."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def spend(self, key: Hashable, per_second: float, burst: float, amount: int, who: str) -> None:
        """Take so much, or raise Throttled, which takes nothing; `key` holds the rate as well."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(burst, now))
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        bucket.level = min(burst, bucket.level + (now - bucket.time) * per_second)
        bucket.time = now
        if bucket.level <= 0:
            wait = (1 - bucket.level) / per_second
            raise Throttled(f"rate for {who} is spent", retry_after=wait)
        bucket.level -= max(1, amount)
