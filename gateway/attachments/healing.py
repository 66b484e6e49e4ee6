"""What reads found wrong with replicas, on its way to the catalog, where repair finds it.

Guarantees that a read never waits for this, and that it is bounded: what waits is told in batches, each
replica once in `quiet` seconds, and beyond `most` at a time it is dropped. What is dropped, or lost with
the catalog or the process, the next read of that replica finds again, or a scrub.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.errors import CatalogError
from gateway.pacing.background import Background
from gateway.ports import Finding, Replicas

log = structlog.get_logger()


class Healing:
    """The queue, over what the catalog knows of replicas. `delay` is how long a batch gathers."""

    def __init__(
        self,
        replicas: Replicas,
        background: Background,
        *,
        delay: float = 0.2,
        quiet: float = 60.0,
        most: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._background = background
        self._delay = delay
        self._quiet = quiet
        self._most = most
        self._clock = clock
        self._waiting: dict[tuple[str, str], Finding] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._telling = False

    def found(self, finding: Finding) -> None:
        """Queue a finding. Returns at once and never raises."""
        key = (finding.version, finding.target)
        if self._told.get(key, 0.0) > self._clock():
            return
        if key not in self._waiting:
            if len(self._waiting) >= self._most:
                log.warning("finding dropped", target=finding.target, version=finding.version)
            else:
                self._waiting[key] = finding
        # Also for one that waits already, or for which there is no room: nobody may be telling any more.
        if not self._telling:
            self._telling = self._background.start("report replicas", self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._delay)
                batch, self._waiting = self._waiting, {}
                try:
                    changed = await self._replicas.report(tuple(batch.values()))
                except CatalogError as error:
                    log.warning("findings lost", count=len(batch), reason=type(error).__name__)
                    return
                self._remember(batch)
                log.info("findings reported", count=len(batch), changed=changed)
        finally:
            self._telling = False

    def _remember(self, batch: dict[tuple[str, str], Finding]) -> None:
        now = self._clock()
        self._told = {key: until for key, until in self._told.items() if until > now}
        if len(self._told) + len(batch) > 10 * self._most:
            self._told.clear()
        self._told.update(dict.fromkeys(batch, now + self._quiet))
