"""Purges what was in the trash for its time: every object of it on every target, then its rows.

So do the blobs that a reseal replaced, or wrote in vain: before their version where it goes as well.
Guarantees that nothing goes before both of the catalog's clocks agree (`Bin.doom`), nothing under a
hold, even one that came when the purge had begun (but for a page of versions), nothing beside a version
of which no target holds what it has now, and at most `batch` versions a run, so that a mistake is seen
before it is large; that a version is forgotten only when no target holds any of it; and that a run which
is killed anywhere is finished by the next. What a target refuses to delete, because it is locked there or
because the target does not answer, waits for a later run. Needs no key, and reads no content.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

import structlog

from gateway.errors import StoreError
from gateway.model import body_key, envelope_key
from gateway.ports import Bin, Doomed, Leftover, Told, Wraps, untold
from gateway.targets.quorum import Target
from gateway.targets.removal import remove_leftovers

log = structlog.get_logger()
PAGE = 200


@dataclass(frozen=True, slots=True)
class Purged:
    """What one run did: versions whose time had come, those gone for good, and those that wait.

    `leftovers` are gone as well: blobs beside the one that their version has, or had.
    """

    due: int = 0
    gone: int = 0
    waiting: int = 0
    leftovers: int = 0


class Purger:
    """The use case, over one catalog and one set of targets."""

    def __init__(
        self, kept: Bin, wraps: Wraps, targets: Sequence[Target], *, batch: int = 10_000
    ) -> None:
        self._bin = kept
        self._wraps = wraps
        self._targets = {target.name: target for target in targets}
        self._batch = batch

    async def run(self, told: Told = untold) -> Purged:
        """Purge what is due, and tell now and then how far it is. Raises CatalogErrors."""
        due = await self._doom(self._bin.doom)
        await told(asdict(Purged(due)))
        await self._doom(self._wraps.doom_leftovers)
        leftovers, waiting = await self._remove_leftovers()
        gone = 0
        last: str | None = None
        while page := await self._bin.doomed(PAGE, last):
            last = page[-1].version.id
            for doomed in page:
                if await self._purge(doomed):
                    gone += 1
                else:
                    waiting += 1
                await told(asdict(Purged(due, gone, waiting, leftovers)))
        if due or gone or waiting or leftovers:
            log.info("purged", due=due, gone=gone, waiting=waiting, leftovers=leftovers)
        return Purged(due, gone, waiting, leftovers)

    async def _doom(self, doom: Callable[[int], Awaitable[int]]) -> int:
        """Begin the purge of what is due, up to the batch; what exceeds it is left to the next run."""
        due = 0
        while due < self._batch:
            begun = await doom(min(PAGE, self._batch - due))
            if not begun:
                return due
            due += begun
        log.warning("purge cut at the batch", due=due)
        return due

    async def _remove_leftovers(self) -> tuple[int, int]:
        """Remove what is beside versions; tell how many are gone for good, and how many wait."""
        gone = waiting = 0
        last: str | None = None
        while page := await self._wraps.leftovers(PAGE, last):
            last = page[-1].blob
            for each in page:
                held = each.targets | self._targets.keys()
                if not await self._served(each):
                    waiting += 1
                elif await self._clear(each.tenant, each.blob, held) == held:
                    await self._wraps.leftover_gone(each.blob)
                    gone += 1
                else:
                    waiting += 1
        return gone, waiting

    async def _served(self, leftover: Leftover) -> bool:
        """Tell whether a target holds what the version has instead, or it has nothing any more.

        A catalog that was rolled back does not know what was switched to since: that may be all there is.
        """
        if not leftover.serving:
            return True
        tenant, blob = leftover.tenant, leftover.serving
        for target in self._targets.values():
            try:
                await target.store.stat(envelope_key(tenant, blob))
                if leftover.size:
                    body = await target.store.stat(body_key(tenant, blob))
                    if body.size != leftover.size:
                        continue
            except StoreError:
                continue
            return True
        log.error("purge waits: no target holds what the version has", version=leftover.version)
        return False

    async def _purge(self, doomed: Doomed) -> bool:
        """Remove one version wherever it may be; tell whether it is gone for good."""
        version = doomed.version
        # A target without a row may hold what a broken upload or a late repair wrote.
        held = doomed.targets | self._targets.keys()
        clear = await self._clear(version.tenant, version.blob, held)
        for name in sorted(doomed.targets & clear):
            await self._bin.gone(version.id, name)
        return clear == held and await self._bin.purge(version.id)

    async def _clear(self, tenant: str, blob: str, held: frozenset[str]) -> frozenset[str]:
        """Remove a blob from these targets; return those that hold nothing of it any more."""
        clear = set[str]()
        for name in sorted(held):
            target = self._targets.get(name)
            if target is not None and await self._remove(target, tenant, blob):
                clear.add(name)
            else:
                log.warning("purge waits", target=name, blob=blob)
        return frozenset(clear)

    async def _remove(self, target: Target, tenant: str, blob: str) -> bool:
        try:
            await remove_leftovers(target.store, tenant, blob)
        except StoreError:
            return False
        return True
