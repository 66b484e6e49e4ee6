"""Replicas that may have been written after their version was purged, until that is known.

Guarantees that what a late repair wrote of a version that is gone is removed, and nothing of one that is
not: a version's row goes last, so one that has none, and no copy on another target, is gone for good. One
that others hold was not purged: the catalog has forgotten it, because it is another or an older one now.
What is in doubt when the process is killed stays for a scrub to find.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import StoreError
from gateway.model import Version
from gateway.ports import Gap, Replicas
from gateway.repair.copying import Copier

MOST = 1000
FOR = 3600.0  # seconds for which one is in doubt
EVERY = 30.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class _Doubt:
    """One of them; looked at until `until`."""

    version: Version
    target: str
    until: float


class Doubts:
    """Those of one process. The oldest are forgotten beyond `MOST`."""

    def __init__(self, replicas: Replicas, copier: Copier, clock: Callable[[], float]) -> None:
        self._replicas = replicas
        self._copier = copier
        self._clock = clock
        self._doubts: deque[_Doubt] = deque(maxlen=MOST)
        self._settled = clock()

    def add(self, gap: Gap) -> None:
        """Doubt one from now on."""
        self._doubts.append(_Doubt(gap.version, gap.target, self._clock() + FOR))

    async def settle(self) -> None:
        """Look at all of them, now and then. Raises CatalogErrors."""
        if self._clock() - self._settled < EVERY:
            return
        self._settled = self._clock()
        for _ in range(len(self._doubts)):
            doubt = self._doubts.popleft()
            if not await self._settle(doubt) and self._clock() < doubt.until:
                self._doubts.append(doubt)

    async def _settle(self, doubt: _Doubt) -> bool:
        if await self._replicas.version(doubt.version.id) is not None:
            return False
        try:
            if await self._copier.held_elsewhere(doubt.version, doubt.target):
                return False
            await self._copier.clear(doubt.version, doubt.target)
        except StoreError:
            return False
        return True
