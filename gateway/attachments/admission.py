"""How many streams run at once: in all, and for one tenant, so that none takes everything.

Beyond the caps a request is refused at once and told when to come again; nobody waits in a queue
without bound. Together with the fan's window this bounds the memory of a process.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Busy


class Admission:
    """The streams of this process: `streams` at most, `per_tenant` at most for one tenant."""

    def __init__(self, streams: int, per_tenant: int) -> None:
        self._streams = streams
        self._per_tenant = per_tenant
        self._running: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """How many streams run now."""
        return self._running.total()

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """Count one stream while the block runs. Raises Busy when a cap is reached."""
        if self.running >= self._streams:
            raise Busy("this gateway serves as many streams as it may; try again")
        if self._running[tenant] >= self._per_tenant:
            raise Busy("this tenant has as many streams open as it may; try again")
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
