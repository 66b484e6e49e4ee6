"""Carries the shred ledger out again: at start, when an entry arrives, and when the dead were seen alive.

Guarantees that a tenant in the ledger whose keys are back in the key store, since that was restored from
before, loses them again; that it is tried until it succeeds, whatever does not answer meanwhile; and that
each time there was something to destroy it is on record. That nobody uses those keys until then is the
doing of `ledgered`. It looks at what every dead tenant's record says once in `every` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from keyservice.errors import KeyServiceError
from keyservice.shredding.destruction import Destroyer
from keyservice.shredding.ledger import Entry, Ledger

EVERY = 3600.0
PAUSE, LONGEST = 1.0, 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """In seconds: between two looks at all of the dead, and after a first failure."""

    every: float = EVERY
    pause: float = PAUSE


class Replay:
    """One for an instance. `tell` puts on record that a destruction was carried out again."""

    def __init__(
        self,
        ledger: Ledger,
        destroyer: Destroyer,
        tell: Callable[[Entry], Awaitable[None]],
        pace: Pace | None = None,
    ) -> None:
        self._ledger = ledger
        self._destroyer = destroyer
        self._tell = tell
        self._pace = pace or Pace()
        self._waiting: dict[str, int] = {}  # how often each was asked for
        self._more = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many tenants are still to be looked at."""
        return len(self._waiting)

    def wake(self, tenant: str) -> None:
        """Ask for one tenant's destruction to be carried out again, soon."""
        self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
        self._more.set()

    async def run(self) -> None:
        """Work until cancelled; first of all, everything that the ledger holds."""
        for tenant in self._ledger.tenants():
            self.wake(tenant)
        while True:
            await self._all()
            try:
                async with asyncio.timeout(self._pace.every):
                    await self._more.wait()
            except TimeoutError:
                await self._look()

    async def _all(self) -> None:
        """Carry out what waits, until nothing does."""
        pause = self._pace.pause
        self._more.clear()
        while self._waiting:
            tenant, asked = next(iter(self._waiting.items()))
            try:
                await self._again(tenant)
            except KeyServiceError as error:
                if pause == self._pace.pause:
                    reason = type(error).__name__
                    log.warning("destruction not carried out again yet", reason=reason)
                # Another one may succeed meanwhile: this one goes to the end.
                self._waiting[tenant] = self._waiting.pop(tenant)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST)
            else:
                pause = self._pace.pause
                if self._waiting[tenant] == asked:  # else it was seen alive again meanwhile
                    del self._waiting[tenant]

    async def _again(self, tenant: str) -> None:
        entry = self._ledger.of(tenant)
        if entry is None or await self._destroyer.finished(entry):
            return
        await self._destroyer.carry_out(entry)
        await self._tell(entry)

    async def _look(self) -> None:
        for tenant in self._ledger.tenants():
            entry = self._ledger.of(tenant)
            try:
                if entry is not None and not await self._destroyer.finished(entry):
                    self.wake(tenant)
            except KeyServiceError:
                self.wake(tenant)
