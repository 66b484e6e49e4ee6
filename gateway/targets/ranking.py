"""Which target to ask first: as configured, but the clearly slower later, and those that failed last.

Guarantees that a target which does not answer costs a wait once in a while, not once a download: its
circuit is open for `rest` seconds, twice as long after each further failure up to `longest`; then one
download asks it again, and the others follow once it has answered. A slow one is asked again likewise,
once in `rest` seconds. Knows what this process has seen, nothing more; it never leaves a target out.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.targets.quorum import Target

SHARE = 0.2  # of the newest time to the first byte in what is remembered
FACTOR, MARGIN = (
    2.0,
    0.05,
)  # more than so many times, and so many seconds, the quickest: clearly slower


@dataclass(slots=True)
class _Record:
    """What was seen of one target: its circuit is open while it failed and `until` is to come."""

    failures: int = 0  # one after the other
    until: float = 0.0
    probed: bool = False  # whether one download was let through to find out
    first_byte: float | None = None
    measured: float = 0.0
    looked: float = 0.0  # when a slow one was last let through to find out


class Ranking:
    """Remembers, by name, how targets answered. `clock` is for tests."""

    def __init__(
        self,
        rest: float = 10.0,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._longest = longest
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def order(self, targets: Iterable[Target]) -> list[Target]:
        """Return the targets in the order in which to ask them, given as they are preferred."""
        targets = list(targets)
        if not self._records or len(targets) == 1:
            return targets
        slow = self._slow([target.name for target in targets])
        return sorted(
            targets, key=lambda target: (self._resting(target.name), slow.get(target.name, 0.0))
        )

    def failed(self, name: str) -> None:
        """Ask this target last for a while."""
        record, now = self._of(name), self._clock()
        if record.until <= now or record.probed:  # of many that fail at once, one counts
            record.failures, record.probed = min(record.failures + 1, 16), False
            record.until = now + self._pause(record)

    def answered(self, name: str, first_byte: float) -> None:
        """Ask this target in its turn again. `first_byte` is how many seconds it took."""
        record = self._of(name)
        record.failures, record.until, record.probed = 0, 0.0, False
        self._measure(record, first_byte)

    def slower(self, name: str, waited: float) -> None:
        """Count a wait that was broken off because another answered first."""
        record = self._of(name)
        self._measure(record, max(waited, record.first_byte or 0.0))

    def _of(self, name: str) -> _Record:
        return self._records.setdefault(name, _Record())

    def _measure(self, record: _Record, seconds: float) -> None:
        now = self._clock()
        if record.first_byte is None or now - record.measured >= self._rest:
            record.first_byte = seconds
        else:
            record.first_byte += SHARE * (seconds - record.first_byte)
        record.measured = now

    def _slow(self, names: Iterable[str]) -> dict[str, float]:
        """Return those that are clearly slower than the quickest, and how slow they are."""
        records = {name: record for name in names if (record := self._records.get(name))}
        times = {n: r.first_byte for n, r in records.items() if r.first_byte is not None}
        limit = FACTOR * min(times.values(), default=0.0) + MARGIN
        now, slow = self._clock(), {}
        for name, seconds in times.items():
            if seconds <= limit:
                continue
            record = records[name]
            if now - max(record.measured, record.looked) >= self._rest:
                record.looked = now  # whoever asked now finds out for the others
            else:
                slow[name] = seconds
        return slow

    def _resting(self, name: str) -> bool:
        record, now = self._records.get(name), self._clock()
        if record is None or not record.failures:
            return False
        if record.until > now:
            return True
        record.until, record.probed = now + self._pause(record), True  # as above
        return False

    def _pause(self, record: _Record) -> float:
        return min(self._rest * 2.0 ** (record.failures - 1), self._longest)
