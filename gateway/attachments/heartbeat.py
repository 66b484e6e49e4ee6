"""Keeps running uploads alive in the catalog, so that the reaper can tell them from dead ones.

One statement a beat for all uploads of this process. When the catalog cannot be reached for longer
than the reaper's grace, an upload may be fenced: its commit then fails, and nothing is half done.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from gateway.errors import CatalogError
from gateway.ports import Catalog

log = structlog.get_logger()


class Heartbeat:
    """The uploads of this process, touched every `interval` seconds while `run` runs."""

    def __init__(self, catalog: Catalog, interval: float = 15.0) -> None:
        self._catalog = catalog
        self._interval = interval
        self._running: set[str] = set()

    @contextmanager
    def of(self, upload: str) -> Iterator[None]:
        """Keep one upload alive while the block runs."""
        self._running.add(upload)
        try:
            yield
        finally:
            self._running.discard(upload)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            if not self._running:
                continue
            try:
                await self._catalog.touch(tuple(self._running))
            except CatalogError as error:
                log.warning("heartbeat failed", error=type(error).__name__)
