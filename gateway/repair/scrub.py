"""Verifies replicas for their own sake, before anybody needs them: without keys, and with keys on a sample.

Guarantees that every stored replica on a target is read and compared within a cycle, those that nobody
verified yet first and then those that wait the longest; that what is found reaches the catalog, where
repair finds it; and that a target which does not answer is never taken for damage. An envelope under an older
KEK than the catalog's is told as well, so that it is written again; of one that is newer, and opens, the
catalog takes the wraps over. A run that was killed
goes on where it was: what was verified is on record. It writes and deletes nothing in any store. What
needs no reading, such as a missing object, `inventory` finds sooner.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from gateway.errors import (
    ObjectMissing,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    Unreadable,
    first,
)
from gateway.model import ReplicaState, Version, new_id, now
from gateway.pacing.rate import Rate
from gateway.ports import Held, Holding, Kept, Replicas, Store, Wraps
from gateway.repair.findings import Findings, Kind, Ledger, Tally, TargetAway, Unwatched, Watch
from gateway.repair.newer import Newer
from gateway.repair.opening import Locked, Opening
from gateway.repair.verify import Under, check_replica, stored_envelope, weigh_envelope
from gateway.targets.quorum import Target

PAGE: Final = 64  # replicas at a time, with the bodies that travel in envelopes
MOST_SKIPPED: Final = 1000
DENSE: Final = 4  # of fewer versions than so many times the sample, all are named first
DAY: Final = timedelta(days=1)
_DOUBTED: Final = frozenset({Kind.DAMAGED, Kind.REPLAYED, Kind.SWAPPED})
_KINDS: Final = {"replayed": Kind.REPLAYED, "swapped": Kind.SWAPPED, "unopened": Kind.UNOPENED}


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """`parallel` replicas at once a target; each run verifies `every`/`cycle` of all, at least.

    `sample` is the share of what a run verifies that is opened with keys too, picked at random; a target
    that does not answer is waited for `patience` seconds.
    """

    parallel: int = 4
    cycle: timedelta = timedelta(days=30)
    every: timedelta = DAY
    sample: float = 0.01
    patience: float = 60.0
    pause: float = 5.0


class _Away(StoreUnavailable):
    """The whole target, not just one object of it."""


class Scrub:
    """The use case, over what the catalog knows of replicas."""

    def __init__(
        self,
        replicas: Replicas,
        wraps: Wraps,
        targets: Sequence[Target],
        opening: Opening,
        *,
        rate: Rate,
        settings: ScrubSettings = ScrubSettings(),
        watch: Watch = Unwatched(),  # noqa: B008 - it keeps nothing
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._replicas = replicas
        self._stores = {target.name: target.store for target in targets}
        self._opening = opening
        self._newer = Newer(wraps, opening)
        self._rate = rate
        self._settings = settings
        self._watch = watch
        self._clock = clock

    def daily(self, target: str) -> Callable[[Ledger], Awaitable[Mapping[str, object]]]:
        """Return the periodic work on a target: `share`, with its report.

        `oldest` is when the replica was verified that waits the longest now.
        """

        async def work(ledger: Ledger) -> Mapping[str, object]:
            tally = await self.share(target, ledger)
            held = await self._replicas.unchecked(target, 1, again=True)
            oldest = held[0].checked if held else None
            return tally.as_json() | {"oldest": oldest.isoformat() if oldest else None}

        return work

    async def share(self, target: str, ledger: Ledger, tally: Tally | None = None) -> Tally:
        """Verify what is due on a target, and open a sample of as much. Raises as `all`."""
        tally = (Tally() if tally is None else tally).resume(ledger.run.progress)
        holding, skipped = await self._replicas.holding(target), set[str]()
        pages = self._due(target, ledger.run.started, holding, tally, skipped)
        await self._verify(target, pages, ledger, tally, skipped)
        await self.sample(target, ceil(tally.verified * self._settings.sample), tally=tally)
        return tally

    async def all(
        self,
        target: str,
        ledger: Ledger,
        *,
        tenant: str | None = None,
        tally: Tally | None = None,
    ) -> Tally:
        """Verify every stored replica on a target, or those of one tenant.

        Raises TargetAway, CatalogErrors and what `ledger.save` raises; what was verified is on record.
        """
        tally = (Tally() if tally is None else tally).resume(ledger.run.progress)
        pages = self._all(target, ledger.run.cursor or None, tenant)
        await self._verify(target, pages, ledger, tally, set())
        return tally

    async def sample(
        self, target: str, count: int, *, tenant: str | None = None, tally: Tally | None = None
    ) -> Tally:
        """Open so many stored replicas on a target with keys, picked at random. Raises CatalogErrors."""
        tally = Tally() if tally is None else tally
        findings = Findings(self._replicas, target, tally, self._watch)
        async with aclosing(self._picked(target, count, tenant)) as versions:
            async for version in versions:
                await self._open(version, findings)
        await findings.flush()
        return tally

    @property
    def _part(self) -> float:
        return min(1.0, self._settings.every / self._settings.cycle)

    async def _due(
        self, target: str, began: datetime, holding: Holding, tally: Tally, skipped: set[str]
    ) -> AsyncGenerator[tuple[str, Sequence[Held]]]:
        """Yield what nobody verified, then the longest ago: a share of all, and whatever is overdue."""
        fresh = (
            holding.unchecked
        )  # what is uploaded meanwhile is for the next run, or this never ends
        while fresh > 0 and len(skipped) <= MOST_SKIPPED:
            found = await self._replicas.unchecked(target, PAGE + len(skipped))
            page = [h for h in found if h.checked is None and h.version.id not in skipped][:fresh]
            if not page:
                break
            fresh -= len(page)
            yield "", page
        overdue = self._clock() - self._settings.cycle
        quota = ceil(holding.objects * self._part)
        while len(skipped) <= MOST_SKIPPED:
            found = await self._replicas.unchecked(target, PAGE + len(skipped), again=True)
            due = [h for h in found if h.version.id not in skipped and _before(h, began)]
            left = max(0, quota - tally.again)
            page = due[:left] + [held for held in due[left:] if _before(held, overdue)]
            if not page:
                return
            yield "", page

    async def _all(
        self, target: str, after: str | None, tenant: str | None
    ) -> AsyncGenerator[tuple[str, Sequence[Held]]]:
        while found := await self._replicas.held(target, after=after, limit=PAGE, tenant=tenant):
            after = found[-1].version.id
            yield after, [held for held in found if held.state is ReplicaState.STORED]

    async def _picked(self, target: str, count: int, tenant: str | None) -> AsyncGenerator[Version]:
        """Yield so many stored versions, or all there are, each once: those behind random ids."""
        objects = (await self._replicas.holding(target, tenant=tenant)).objects
        if objects <= DENSE * count:
            stored = [kept.version async for kept in self._kept(target, tenant)]
            for each in random.sample(stored, min(count, len(stored))):
                if (version := await self._replicas.version(each)) is not None:
                    yield version
            return
        picked = set[str]()
        for _ in range(DENSE * count):
            found = await self._replicas.held(target, after=new_id(), limit=1, tenant=tenant)
            if found and found[0].state is ReplicaState.STORED:
                version = found[0].version
                if version.id not in picked and len(picked) < count:
                    picked.add(version.id)
                    yield version

    async def _kept(self, target: str, tenant: str | None) -> AsyncGenerator[Kept]:
        after = None
        while page := await self._replicas.kept(target, after=after):
            after = page[-1].version
            for kept in page:
                if tenant in {None, kept.tenant}:
                    yield kept

    async def _verify(
        self,
        target: str,
        pages: AsyncGenerator[tuple[str, Sequence[Held]]],
        ledger: Ledger,
        tally: Tally,
        skipped: set[str],
    ) -> None:
        """Verify page by page; what could not be looked at is added to `skipped`."""
        findings = Findings(self._replicas, target, tally, self._watch)
        async with aclosing(pages):
            async for cursor, page in pages:
                await self._page(page, findings, skipped)
                await findings.flush()
                await ledger.save(cursor, tally.counts())

    async def _page(self, page: Sequence[Held], findings: Findings, skipped: set[str]) -> None:
        left = {held.version.id: held for held in page}
        store = self._stores[findings.target]

        async def lane(queue: list[Held]) -> None:
            while queue:
                held = queue.pop()
                if not await self._one(store, held, findings):
                    skipped.add(held.version.id)
                del left[held.version.id]

        while left:
            queue = [*reversed(left.values())]
            try:
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(min(self._settings.parallel, len(queue))):
                        lanes.create_task(lane(queue))
            except BaseExceptionGroup as group:
                if not isinstance(error := first(group), _Away):
                    raise error from None
                await self._wait(findings)

    async def _wait(self, findings: Findings) -> None:
        """Wait until a target is back. Raises TargetAway."""
        await findings.flush()
        target = findings.target
        until = time.monotonic() + self._settings.patience
        while time.monotonic() < until:
            await asyncio.sleep(self._settings.pause)
            try:
                await self._stores[target].check()
            except StoreError:
                continue
            return
        raise TargetAway(
            f"target {target} does not answer: what is left is verified next time",
            findings.tally.as_json(),
        )

    async def _one(self, store: Store, held: Held, findings: Findings) -> bool:
        """Verify one replica; False when it could not be looked at. Raises _Away."""
        version: Version | None = held.version
        try:
            found = await self._look(store, held.version)
            if not isinstance(
                found, Under
            ):  # once more, by what the catalog says now: it may be new, or gone
                version = await self._replicas.version(held.version.id)
                if version is not None:
                    found = await self._look(store, version)
                await store.check()
                if version is not None and not isinstance(found, Under) and found[0] in _DOUBTED:
                    found = await self._weigh(findings.target, version, found)
            if version is not None and isinstance(found, Under) and found.ahead:
                found = await self._take(store, version, found, findings.tally)
        except StoreError as error:
            try:
                await store.check()
            except StoreError:
                raise _Away from error
            findings.tally.unreachable += 1
            return False
        if version is None:
            return True
        if isinstance(found, Under):
            await findings.good(version, found, again=held.checked is not None)
            return True
        await findings.bad(version.id, version.blob, *found)
        return found[0] is not Kind.UNMEASURED

    async def _take(
        self, store: Store, version: Version, under: Under, tally: Tally
    ) -> Under | tuple[Kind, str]:
        """Let the catalog have an envelope that is newer than its own, or say what is wrong with it."""
        try:
            return await self._newer.take(store, version, self._rate)
        except Locked:
            tally.locked += 1
        except (Unreadable, ObjectMissing, StoreDamaged) as error:
            return _fault(error)
        return under

    async def _look(self, store: Store, version: Version) -> Under | tuple[Kind, str]:
        """Return what a whole replica is under, or what is wrong with one.

        Raises StoreErrors of a store that does not answer.
        """
        try:
            stored_envelope(version)
            return await check_replica(store, version, self._rate)
        except (Unreadable, ObjectMissing, StoreDamaged) as error:
            return _fault(error)

    async def _weigh(
        self, target: str, version: Version, fault: tuple[Kind, str]
    ) -> tuple[Kind, str]:
        """Blame the catalog where another target has the very envelope that it contradicts."""
        others = [store for name, store in self._stores.items() if name != target]
        try:
            await weigh_envelope(self._stores[target], others, version)
        except Unreadable as error:
            if error.retry_after is None:
                return Kind.UNMEASURED, "contradicted"
        return fault

    async def _open(self, version: Version, findings: Findings) -> None:
        store = self._stores[findings.target]
        try:
            await self._opening.check(store, version, self._rate)
        except Locked:
            findings.tally.locked += 1
        except (Unreadable, ObjectMissing, StoreDamaged) as error:
            await findings.bad(version.id, version.blob, *_fault(error))
        except StoreError:
            findings.tally.unreachable += 1
        else:
            findings.tally.opened += 1


def _before(held: Held, moment: datetime) -> bool:
    """Tell whether a replica was last verified before a moment."""
    return held.checked is not None and held.checked < moment


def _fault(error: Unreadable | ObjectMissing | StoreDamaged) -> tuple[Kind, str]:
    """Say what an error tells of a replica."""
    if isinstance(error, Unreadable):
        return Kind.UNMEASURED, "catalog"
    if isinstance(error, ObjectMissing):
        return Kind.MISSING, "absent"
    return _KINDS.get(error.reason, Kind.DAMAGED), error.reason
