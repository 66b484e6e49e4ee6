"""Compares what a target lists with what the catalog says is there: cheap enough to do twice a day.

Guarantees that every stored replica whose body or envelope is missing, or whose body has another size, is
found and reported for repair, and that every object which nobody owns is counted and logged; and that
nothing counts as missing unless the target said so when it was asked for that object alone. Reads no
object: what has the right size and other bytes is for `scrub`. Memory is bounded, by more listings where
there is more. It writes and deletes nothing in any store.

One that was killed begins anew, on purpose: half a listing proves nothing of what it lacks, and what was seen
of it is remembered in memory alone, tens of megabytes that no row should keep. Nothing but time is lost:
what was found was told to the catalog as it was found, and a listing is a request for a thousand objects.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from envelope.envelope import MAX_ENVELOPE
from gateway.errors import ObjectMissing, StoreError
from gateway.model import SYSTEM, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.ports import Catalog, Kept, Replicas, Store
from gateway.repair.findings import Findings, Kind, Ledger, Tally, TargetAway, Unwatched, Watch
from gateway.repair.seen import Seen
from gateway.targets.quorum import Target

ROOM: Final = 4_000_000  # replicas that one listing is compared with
PAGE: Final = 500
_KEY: Final = re.compile(r"t/([0-9a-f]{32})/([0-9a-f]{32})/(body|envelope)")


@dataclass(slots=True)
class _Blob:
    """What a listing has of one blob: the sizes of its objects."""

    tenant: str
    blob: str
    body: int | None = None
    envelope: int | None = None

    @property
    def what(self) -> str:
        """What of it is there, in one word."""
        if self.body is None:
            return "envelope"
        return "body" if self.envelope is None else "whole"


class Inventory:
    """The use case. `room` is how many replicas are remembered at a time."""

    def __init__(
        self,
        catalog: Catalog,
        replicas: Replicas,
        targets: Sequence[Target],
        *,
        rate: Rate,
        room: int = ROOM,
        watch: Watch = Unwatched(),  # noqa: B008 - it keeps nothing
    ) -> None:
        self._catalog = catalog
        self._replicas = replicas
        self._stores = {target.name: target.store for target in targets}
        self._rate = rate
        self._room = room
        self._watch = watch

    def periodic(self, target: str) -> Callable[[Ledger], Awaitable[Mapping[str, object]]]:
        """Return the periodic work on a target: `take`, with its report."""

        async def work(ledger: Ledger) -> Mapping[str, object]:
            return (await self.take(target, ledger)).as_json()

        return work

    async def take(
        self, target: str, ledger: Ledger | None = None, tally: Tally | None = None
    ) -> Tally:
        """Compare a target with the catalog. Raises TargetAway and CatalogErrors."""
        tally = Tally() if tally is None else tally
        findings = Findings(self._replicas, target, tally, self._watch)
        parts = [(0, 0)]
        try:
            while parts:
                part = parts.pop()
                seen = Seen(self._room, *part)
                await self._list(target, seen, findings, ledger, whole=part == (0, 0))
                await self._compare(target, seen, findings, ledger)
                parts += seen.left
        except StoreError as error:
            reason = f"target {target} does not answer: its listing is compared next time"
            raise TargetAway(reason, tally.as_json()) from error
        return tally

    async def _list(
        self, target: str, seen: Seen, findings: Findings, ledger: Ledger | None, *, whole: bool
    ) -> None:
        """Remember what is there; the first time, look for what is nobody's too."""
        page: list[_Blob] = []
        tally = findings.tally if whole else Tally()
        async with aclosing(_blobs(self._stores[target], tally)) as blobs:
            async for blob in blobs:
                if blob.envelope is not None and 0 < blob.envelope <= MAX_ENVELOPE:
                    seen.add((blob.tenant, blob.blob, blob.body or 0))
                    if seen.full:
                        await seen.halve()
                page.append(blob)
                if len(page) == PAGE:
                    await self._page(target, page, findings, ledger, whole=whole)
                    page = []
        await self._page(target, page, findings, ledger, whole=whole)

    async def _page(
        self,
        target: str,
        page: Sequence[_Blob],
        findings: Findings,
        ledger: Ledger | None,
        *,
        whole: bool,
    ) -> None:
        await self._rate.take(0, 1)
        if whole:
            ours = [blob for blob in page if blob.tenant != SYSTEM]
            known = await self._catalog.known([blob.blob for blob in ours])
            for blob in ours:
                if blob.blob not in known and await self._there(target, blob):
                    findings.orphan(blob.blob, blob.what)
        if ledger is not None:
            await ledger.save("", findings.tally.counts())

    async def _there(self, target: str, blob: _Blob) -> bool:
        """Tell whether it is still there: it may have been purged since it was listed."""
        keys = ((body_key, blob.body), (envelope_key, blob.envelope))
        for key in (name(blob.tenant, blob.blob) for name, size in keys if size is not None):
            await self._rate.take(0, 1)
            try:
                await self._stores[target].stat(key)
            except ObjectMissing:
                continue
            return True
        return False

    async def _compare(
        self, target: str, seen: Seen, findings: Findings, ledger: Ledger | None
    ) -> None:
        """Look after what should be there and was not listed so."""
        after = None
        while page := await self._replicas.kept(target, after=after):
            after = page[-1].version
            for kept in page:
                thing = (kept.tenant, kept.blob, kept.body_size)
                if seen.takes(thing) and thing not in seen:
                    fault = await self._look(self._stores[target], kept)
                    if fault is not None:
                        await findings.bad(kept.version, kept.blob, *fault)
            if ledger is not None:
                await ledger.save("", findings.tally.counts())

    async def _look(self, store: Store, kept: Kept) -> tuple[Kind, str] | None:
        """Ask for one replica's objects. Raises StoreErrors of a store that does not answer."""
        await self._rate.take(0, 2)
        try:
            envelope = await store.stat(envelope_key(kept.tenant, kept.blob))
            if kept.body_size:
                body = await store.stat(body_key(kept.tenant, kept.blob))
                if body.size != kept.body_size:
                    return Kind.DAMAGED, "short" if body.size < kept.body_size else "long"
        except ObjectMissing:
            await store.check()
            return Kind.MISSING, "absent"
        if not 0 < envelope.size <= MAX_ENVELOPE:
            return Kind.DAMAGED, "damaged"
        return None


async def _blobs(store: Store, tally: Tally) -> AsyncGenerator[_Blob]:
    """Group a listing, which is in order of keys, by blob."""
    blob: _Blob | None = None
    async for stat in store.list("t/"):
        tally.listed += 1
        shape = _KEY.fullmatch(stat.key)
        if shape is None:
            tally.strange += 1
            continue
        tenant, name, kind = shape.groups()
        if blob is None or (blob.tenant, blob.blob) != (tenant, name):
            if blob is not None:
                yield blob
            blob = _Blob(tenant, name)
        if kind == "body":
            blob.body = stat.size
        else:
            blob.envelope = stat.size
    if blob is not None:
        yield blob
