"""How far each target is behind, as figures that are refreshed now and then, and as events.

Guarantees that asking costs a bounded share of the catalog's time, however large it is; that a target
which stays behind for longer than the threshold is told of once, and once more when it has caught up;
and that figures which could not be refreshed stand as they were, with the time that they are from.
It repairs nothing.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from gateway.errors import CatalogError
from gateway.model import now
from gateway.ports import Lag, Replicas

SHARE = 20  # a refresh is followed by a pause of so many times what it took

log = structlog.get_logger()


class Watch(Protocol):
    """Who is told, for figures."""

    def lags(self, lag: Lag, seconds: float) -> None:
        """Tell how far a target is behind now."""

    def missed_threshold(self, target: str) -> None:
        """Tell that a target is behind for longer than it may be."""

    def caught_up(self, target: str) -> None:
        """Tell that a target which was behind holds everything again."""

    def lags_refreshed(self) -> None:
        """Tell that the figures are of now."""


class Lags:
    """The watch over all targets. Times in seconds; `threshold` is how long one may be behind."""

    def __init__(
        self,
        replicas: Replicas,
        targets: Sequence[str],
        watch: Watch,
        *,
        threshold: float = 900.0,
        every: float = 15.0,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._replicas = replicas
        self._targets = tuple(targets)
        self._watch = watch
        self._threshold = threshold
        self._every = every
        self._clock = clock
        self._behind: set[str] = set()
        self._late: set[str] = set()

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.refresh()
            except CatalogError as error:
                log.warning("lag is not known", reason=type(error).__name__)
            await asyncio.sleep(max(self._every, SHARE * (time.monotonic() - began)))

    async def refresh(self) -> None:
        """Ask the catalog once, and tell. Raises CatalogErrors."""
        for lag in await self._replicas.lag(self._targets):
            seconds = 0.0
            if lag.oldest is not None:
                seconds = max(0.0, (self._clock() - lag.oldest).total_seconds())
            self._watch.lags(lag, seconds)
            if not lag.objects:
                self._caught_up(lag.target)
                continue
            self._behind.add(lag.target)
            if seconds >= self._threshold and lag.target not in self._late:
                self._late.add(lag.target)
                self._watch.missed_threshold(lag.target)
                log.error(
                    "target missed the threshold",
                    target=lag.target,
                    seconds=round(seconds),
                    objects=lag.objects,
                    bytes=lag.bytes,
                    failing=lag.failing,
                )
        self._watch.lags_refreshed()

    def _caught_up(self, target: str) -> None:
        if target in self._behind:
            late = target in self._late
            self._behind.discard(target)
            self._late.discard(target)
            self._watch.caught_up(target)
            log.info("target caught up", target=target, late=late)
