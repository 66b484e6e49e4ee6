"""How long to wait before what failed is tried again: a target as a whole, or one gap.

Guarantees that it is longer each time, within a bound, and a bit different for each, so that what failed
together does not come back together.
"""

import random

LONGEST = 3600.0  # seconds at most before a gap is tried again
FIRST = 15.0
REST = 60.0  # seconds at most that a target is left alone


class Rest:
    """How long a target that failed is left alone: longer each time, until it worked once."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    def resting(self, at: float) -> bool:
        """Tell whether it is left alone now."""
        return bool(self.failures) and at < self._until

    def begin(self, at: float) -> float:
        """Leave it alone from now on; return for how many seconds. Failures at once count once."""
        if not self.resting(at):
            self.failures += 1
            self._until = at + jittered(min(REST, 2.0 ** min(self.failures - 1, 10)))
        return self._until - at

    def end(self) -> None:
        """Note that it works."""
        self.failures = 0


def backoff(tries: int) -> float:
    """Return the seconds until a gap that was tried so often before is tried again."""
    return jittered(min(LONGEST, FIRST * 2.0 ** min(tries, 20)))


def jittered(seconds: float) -> float:
    """Return a bit less, at random."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - guards no secret
