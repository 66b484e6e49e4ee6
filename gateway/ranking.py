"""Which target to ask first: as configured, but those that failed a moment ago last.

Guarantees that a target which does not answer costs a wait once in `rest` seconds, not once a download:
after that time one download asks it again, and the others follow once it has answered. Knows what this
process has seen, nothing more; it never leaves a target out.
"""

import time
from collections.abc import Callable, Iterable

from gateway.quorum import Target


class Ranking:
    """Remembers, by name, which targets are resting. `clock` is for tests."""

    def __init__(self, rest: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._until: dict[str, float] = {}

    def order(self, targets: Iterable[Target]) -> list[Target]:
        """Return the targets in the order in which to ask them."""
        return sorted(targets, key=lambda target: self._resting(target.name))

    def failed(self, name: str) -> None:
        """Ask this target last for a while."""
        self._until[name] = self._clock() + self._rest

    def worked(self, name: str) -> None:
        """Ask this target in its turn again."""
        self._until.pop(name, None)

    def _resting(self, name: str) -> bool:
        until = self._until.get(name)
        if until is None:
            return False
        if until > self._clock():
            return True
        self.failed(name)  # whoever asked now finds out for the others, who go on without it
        return False
