"""Whether the service lives and whether it can serve, one line a dependency.

`/livez` asks nothing of anybody. `/readyz` is 503 while no request could be answered: while it
drains, while the audit sink takes nothing, or while the root or the key store is gone and nothing
is cached. With something cached it stays 200 and says `degraded`, since taking every instance out
would turn a sealed Vault into an outage for tenants who could go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from keyservice.ports import RootStatus

FRESH_FOR = 2.0
TIMEOUT = 5.0
Check = Callable[[], Awaitable[RootStatus]]


class Health:
    """Asks the dependencies at most every two seconds, however often it is asked."""

    def __init__(
        self,
        needed: Mapping[str, Check],
        cached: Mapping[str, Check],
        *,
        serves_cached: Callable[[], bool],
        report: Callable[[str, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = {**needed, **cached}
        self._cached = frozenset(cached)
        self._serves_cached = serves_cached
        self._report = report
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked = float("-inf")
        self._found: dict[str, RootStatus] = {}
        self.draining = False

    async def ready(self) -> tuple[bool, str]:
        """Return whether to send requests here, and a line for each dependency."""
        found = await self._fresh()
        ready = not self.draining
        lines = ["draining: finishing what was accepted"] if self.draining else []
        for name, status in found.items():
            word = "ok"
            if not status.healthy:
                bridged = name in self._cached and self._serves_cached()
                word = "degraded" if bridged else "failed"
                ready = ready and bridged
            lines.append(f"{name}: {word}: {status.detail}")
        return ready, "\n".join(lines) + "\n"

    async def of(self, name: str) -> RootStatus:
        """Return how one dependency is, as it was within the last two seconds."""
        return (await self._fresh())[name]

    async def _fresh(self) -> Mapping[str, RootStatus]:
        async with self._lock:
            if self._clock() - self._asked >= FRESH_FOR:
                self._found = {name: await self._ask(name) for name in self._checks}
                self._asked = self._clock()
            return self._found

    async def _ask(self, name: str) -> RootStatus:
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await self._checks[name]()
        except TimeoutError:
            status = RootStatus(healthy=False, detail="does not answer")
        self._report(name, status.healthy)
        return status
