"""Purges what was in the trash for its time: every object of it on every target, then its rows.

Guarantees that nothing goes before both of the catalog's clocks agree (`Bin.doom`), nothing under a
hold, and at most `batch` versions a run, so that a mistake is seen before it is large; that a version
is forgotten only when no target holds any of it; and that a run which is killed anywhere is finished by
the next. What a target refuses to delete, because it is locked there or because the target does not
answer, waits for a later run. Needs no key, and reads no content.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gateway.errors import StoreError
from gateway.model import Version
from gateway.ports import Bin, Doomed
from gateway.quorum import Target
from gateway.removal import remove_leftovers

log = structlog.get_logger()
PAGE = 200


@dataclass(frozen=True, slots=True)
class Purged:
    """What one run did: versions whose time had come, those gone for good, and those that wait."""

    due: int = 0
    gone: int = 0
    waiting: int = 0


class Purger:
    """The use case, over one catalog and one set of targets."""

    def __init__(self, kept: Bin, targets: Sequence[Target], *, batch: int = 10_000) -> None:
        self._bin = kept
        self._targets = {target.name: target for target in targets}
        self._batch = batch

    async def run(self) -> Purged:
        """Purge what is due. Raises CatalogErrors."""
        due = await self._doom()
        gone = waiting = 0
        last: str | None = None
        while page := await self._bin.doomed(PAGE, last):
            last = page[-1].version.id
            for doomed in page:
                if await self._purge(doomed):
                    gone += 1
                else:
                    waiting += 1
        if due or gone or waiting:
            log.info("purged", due=due, gone=gone, waiting=waiting)
        return Purged(due, gone, waiting)

    async def _doom(self) -> int:
        """Begin the purge of what is due, up to the batch; what exceeds it is left to the next run."""
        due = 0
        while due < self._batch:
            begun = await self._bin.doom(min(PAGE, self._batch - due))
            if not begun:
                return due
            due += begun
        log.warning("purge cut at the batch", versions=due)
        return due

    async def _purge(self, doomed: Doomed) -> bool:
        """Remove one version wherever it may be; tell whether it is gone for good."""
        clear = True
        # A target without a row may hold what a broken upload or a late repair wrote.
        for name in sorted(doomed.targets | self._targets.keys()):
            target = self._targets.get(name)
            if target is None or not await self._remove(target, doomed.version):
                clear = False
                log.warning("purge waits", target=name, blob=doomed.version.blob)
            elif name in doomed.targets:
                await self._bin.gone(doomed.version.id, name)
        return clear and await self._bin.purge(doomed.version.id)

    async def _remove(self, target: Target, version: Version) -> bool:
        try:
            await remove_leftovers(target.store, version.tenant, version.blob)
        except StoreError:
            return False
        return True
