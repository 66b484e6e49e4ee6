"""Removes what broken uploads left behind: bodies, envelopes, parts, and the rows that name them.

Guarantees that nothing of a committed version is ever touched, even where the catalog has forgotten it:
an upload is fenced before its leftovers go; one whose envelope is in a store was complete, and may have
been acknowledged before the catalog was rolled back or failed over, so it is kept for `keep`; and of
what no row knows, only parts, and bodies without an envelope, go, and only once nothing of them was
written for `age`. Works without keys, page by page, and may be killed anywhere; the next run converges.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from gateway.errors import CatalogError, ObjectMissing, StoreError
from gateway.model import Upload, envelope_key, now
from gateway.ports import Catalog, Stat, Told, Unfinished, untold
from gateway.targets.quorum import Target
from gateway.targets.removal import remove_leftovers

log = structlog.get_logger()
PAGE = 500
_KEY = re.compile(r"t/[0-9a-f]{32}/([0-9a-f]{32})/[a-z]+")


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one run removed."""

    uploads: int = 0
    parts: int = 0
    orphans: int = 0


class Reaper:
    """The use case, over one catalog and one set of targets.

    `grace` is how long an upload may go without a heartbeat, `keep` how long a complete one that has
    no version stays, `age` how old an object or a multipart upload that no row knows must be, and
    `keys_kept` how long an idempotency key is remembered.
    """

    def __init__(
        self,
        catalog: Catalog,
        targets: Sequence[Target],
        *,
        grace: timedelta = timedelta(minutes=15),
        age: timedelta = timedelta(hours=24),
        keep: timedelta = timedelta(days=30),
        keys_kept: timedelta = timedelta(hours=24),
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._grace = grace
        self._age = age
        self._keep = keep
        self._keys_kept = keys_kept

    async def uploads(self) -> tuple[int, int]:
        """Fence and remove uploads that stopped beating.

        Returns how many were finished off, and how many wait because a store refused.
        """
        count = waiting = 0
        last = None
        while page := await self._catalog.stale(self._grace, PAGE, last):
            last = page[-1]
            for upload in page:
                try:
                    count += await self._finish_off(upload)
                except StoreError as error:
                    reason = type(error).__name__
                    log.warning("leftovers remain", blob=upload.blob, reason=reason)
                    waiting += 1
        return count, waiting

    async def _finish_off(self, upload: Upload) -> bool:
        """Remove what an upload left. Raises StoreErrors; the row is there for the next run then."""
        if upload.touched > now() - self._keep and await self._complete(upload):
            log.info("complete upload kept", blob=upload.blob, tenant=upload.tenant)
            return False
        for target in self._targets:
            await remove_leftovers(target.store, upload.tenant, upload.blob)
        await self._catalog.forget(upload.id)
        return True

    async def _complete(self, upload: Upload) -> bool:
        """Tell whether any target holds the upload's envelope. Raises StoreError if one cannot say."""
        for target in self._targets:
            try:
                await target.store.stat(envelope_key(upload.tenant, upload.blob))
            except ObjectMissing:
                continue
            return True
        return False

    async def sweep(self, target: Target, told: Told = untold) -> tuple[int, int]:
        """Remove multipart uploads and bodies of one target that no row knows and that are old.

        Returns how many of each. Reads the whole listing of the target, and tells how far it is.
        """
        before = now() - self._age
        parts = orphans = 0
        old: list[Unfinished] = [
            item async for item in target.store.unfinished("t/") if item.started < before
        ]
        running = await self._owned([item.key for item in old], self._catalog.running)
        for item in old:  # a version is no reason to keep one: what it needed was completed
            if not _blob(item.key) or _blob(item.key) in running:
                continue
            with suppress(ObjectMissing):  # it was completed or discarded meanwhile
                if await target.store.touched(item) < before:  # else somebody copies still
                    await target.store.discard(item)
                    parts += 1
        bodies: list[Stat] = []
        listed = 0
        async for stat in target.store.list("t/"):
            listed += 1
            if listed % PAGE == 0:
                await told({"listed": listed, "parts": parts, "orphans": orphans})
            if bodies and _blob(stat.key) == _blob(bodies[-1].key):
                bodies.pop()  # its envelope follows: whatever the catalog says, it can be restored
            elif stat.modified < before and _blob(stat.key) and stat.key.endswith("/body"):
                if len(bodies) >= PAGE:
                    orphans += await self._prune(target, bodies)
                    bodies = []
                bodies.append(stat)
        return parts, orphans + await self._prune(target, bodies)

    async def _prune(self, target: Target, bodies: Sequence[Stat]) -> int:
        known = await self._owned([stat.key for stat in bodies], self._catalog.known)
        orphans = 0
        for stat in bodies:
            # Not by the listing alone: one that is out of order shows the envelope elsewhere.
            if _blob(stat.key) not in known and not await _sealed(target, stat.key):
                await target.store.delete(stat.key)
                orphans += 1
        return orphans

    async def _owned(
        self, keys: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[frozenset[str]]]
    ) -> frozenset[str]:
        """Ask the catalog about the blobs of these keys, page by page."""
        blobs = list({_blob(key) for key in keys})
        pages = [await ask(blobs[at : at + PAGE]) for at in range(0, len(blobs), PAGE)]
        return frozenset().union(*pages)

    async def run(self, *, sweep: bool) -> Reaped:
        """Reap once, over all targets; a target or a catalog that fails is left for the next run."""
        uploads = parts = orphans = 0
        try:
            uploads, _ = await self.uploads()
            await self._catalog.expire(self._keys_kept)
        except CatalogError as error:
            log.warning("reaper stopped early", reason=type(error).__name__)
        for target in self._targets if sweep else ():
            try:
                swept = await self.sweep(target)
            except (StoreError, CatalogError) as error:
                log.warning("sweep ended early", target=target.name, reason=type(error).__name__)
            else:
                parts, orphans = parts + swept[0], orphans + swept[1]
        return Reaped(uploads, parts, orphans)


async def _sealed(target: Target, body: str) -> bool:
    """Tell whether a body has an envelope beside it."""
    try:
        await target.store.stat(f"{body.removesuffix('body')}envelope")
    except ObjectMissing:
        return False
    return True


def _blob(key: str) -> str:
    """Return the blob id in `t/{tenant}/{blob}/...`, or nothing: a key of another shape is not ours."""
    shape = _KEY.fullmatch(key)
    return shape[1] if shape else ""
