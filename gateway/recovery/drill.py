"""Proves that a backup can be restored from: into an empty catalog and an empty store, opened, compared.

Guarantees that what counts as good came from the backup alone: its envelope was proven and put into an
empty catalog, its body copied into an empty store, opened there, and every byte of it authenticated; that
its length and digests are those that the catalog in use knows; and that plaintext is only ever in memory.
The newest copy of the catalog is loaded into an empty one as well. What the catalog in use says is missing
on the backup is no failure: it is how far the backup is behind, and told as such. Nor is what was busy or
away for a while, or what was purged in the meantime: a drill that cries wolf is not believed.
One that was killed is gone on with behind what it had tried, as `drilled` keeps it: the empty catalog is
filled anew, since it went with its process, and no body is read again but those that were under way.
"""

import asyncio
import functools
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Final

from gateway.attachments.downloads import Downloads
from gateway.duties.record import on_record
from gateway.errors import GatewayError, ObjectMissing, first
from gateway.keys.data_keys import KeyService
from gateway.model import ReplicaState, Version, body_key, envelope_key, new_id, now
from gateway.pacing.patience import Patience
from gateway.pacing.rate import Rate
from gateway.ports import Held, Replicas, Runs, Store
from gateway.recovery.catalog_backup import CatalogBackups, Copy
from gateway.recovery.drilled import Course, Drilled, Ledger
from gateway.recovery.envelopes import Envelopes, Offer
from gateway.recovery.rebuild import PATIENCE, Rebuild
from gateway.recovery.trial import SCRATCH, Scratch, Trial
from gateway.repair.copying import Copier
from gateway.targets.quorum import Role, Target

KIND: Final = "drill"
EVERYTHING: Final = "full-drill"
SAMPLE: Final = 100
AT_ONCE: Final = 4
PAGE: Final = 200
STEP: Final = 20  # versions that are tried between two notes of how far it got


Told = Callable[[Drilled], None]


def _silent(drilled: Drilled) -> None:
    del drilled


class Drill:
    """The use case. `scratch` opens what is restored into; `rate` bounds what is read from the backup.

    `patience` gives each run what a store or a key service that is busy or away is waited for with.
    """

    def __init__(
        self,
        replicas: Replicas,
        runs: Runs,
        keys: KeyService,
        backups: CatalogBackups,
        *,
        scratch: Callable[[], AbstractAsyncContextManager[Scratch]],
        rate: Rate,
        sample: int = SAMPLE,
        part_size: int = 8 << 20,
        at_once: int = AT_ONCE,
        patience: Callable[[], Patience] = lambda: Patience(PATIENCE),
    ) -> None:
        self._replicas = replicas
        self._runs = runs
        self._keys = keys
        self._backups = backups
        self._scratch = scratch
        self._rate = rate
        self._sample = sample
        self._part_size = part_size
        self._at_once = at_once
        self._patience = patience

    async def record(
        self,
        source: Target,
        *,
        everything: bool = False,
        sample: int | None = None,
        told: Told = _silent,
    ) -> Drilled:
        """Do as `run`, and put it on record; go on with one that was killed. Raises AlreadyRunning, too."""
        kind = EVERYTHING if everything else KIND
        async with on_record(self._runs, kind, source.name) as entry:
            drilled = await self.run(
                source, everything=everything, sample=sample, told=told, ledger=entry.ledger
            )
            entry.outcome, entry.good = drilled.as_json(), drilled.good
        return drilled

    async def history(self, source: str | None = None) -> Sequence[Mapping[str, object]]:
        """Return what the drills on record came to, the newest first."""
        runs = [
            run
            for kind in (KIND, EVERYTHING)
            for run in await self._runs.history(kind, source)
            if "source" in run.outcome
        ]
        return [run.outcome for run in sorted(runs, key=lambda run: run.started, reverse=True)]

    async def run(
        self,
        source: Target,
        *,
        everything: bool = False,
        sample: int | None = None,
        told: Told = _silent,
        ledger: Ledger | None = None,
    ) -> Drilled:
        """Restore a random sample, or everything, from one target, and compare.

        With a `ledger` it goes on where another process was cut off. Raises CatalogErrors, KeyServiceErrors,
        and StoreErrors when the target does not answer at all, and what the ledger does; what is wrong with
        one version is in the report.
        """
        count, patience = 0 if everything else sample or self._sample, self._patience()
        began = now()  # here: the empty catalog is filled from now on, whoever began the drill
        course = Course(Drilled(source.name, everything, began), count, ledger, seed=new_id())
        drilled = course.drilled
        if not course.resumed:
            (lag,) = await self._replicas.lag([source.name])
            drilled.missing = lag.objects
            if lag.oldest is not None:
                drilled.rpo = max((drilled.started - lag.oldest).total_seconds(), 0.0)
            await self._load_copy(source, drilled, patience)
            await course.keep(None)
        async with self._scratch() as scratch:
            if everything:
                refused = await self._rebuild_all(source, scratch, drilled, patience)
                steps = self._all(source, course.after)
            else:
                chosen = await self._choose(source, count, random.Random(course.seed))  # noqa: S311 - see there
                left = [version for version in chosen if version.id > (course.after or "")]
                refused = await self._rebuild_some(source, left, scratch, drilled, patience)
                steps = _stepped(left)
            async with aclosing(steps):
                async for last, step in steps:
                    await self._try(source, step, scratch, drilled, refused, patience, began)
                    await course.keep(last)
                    told(drilled)
        await course.keep(course.after)
        return drilled

    async def _load_copy(self, source: Target, drilled: Drilled, patience: Patience) -> None:
        """Load the newest copy of the catalog into an empty one."""
        copy: Copy | None = await patience.keep(lambda: self._backups.newest(source))
        if copy is None:
            return
        drilled.copy = copy.taken

        async def load() -> Mapping[str, int]:
            async with self._scratch() as scratch:
                return await self._backups.over(scratch.dumps).restore(source, copy)

        try:
            rows = await patience.keep(load)
        except GatewayError as error:
            drilled.copy_failed = type(error).__name__
        else:
            drilled.copy_rows = sum(rows.values())

    async def _all(
        self, source: Target, after: str | None
    ) -> AsyncGenerator[tuple[str, Sequence[Version]]]:
        while page := await self._replicas.held(source.name, after=after, limit=PAGE):
            after = page[-1].version.id
            for start in range(0, len(page), STEP):
                step = page[start : start + STEP]
                yield step[-1].version.id, _stored(step)

    async def _choose(self, source: Target, count: int, draws: random.Random) -> Sequence[Version]:
        """Choose at random: ids are random, so whichever follows a random one is as good as any.

        The same ids are drawn for the same run, whose id nobody outside knows. Where there are no more than
        that it is all of them: one close behind another is seldom drawn. In order of id.
        """
        if count <= PAGE:
            page = await self._replicas.held(source.name, limit=count + 1)
            if len(page) <= count:
                return _stored(page)
        chosen: dict[str, Version] = {}
        for _ in range(count):
            after = f"{draws.getrandbits(128):032x}"
            page = await self._replicas.held(source.name, after=after, limit=1)
            page = page or await self._replicas.held(source.name, limit=1)
            chosen |= {version.id: version for version in _stored(page)}
        return [chosen[version] for version in sorted(chosen)]

    async def _rebuild_all(
        self, source: Target, scratch: Scratch, drilled: Drilled, patience: Patience
    ) -> dict[str, str]:
        """Rebuild the empty catalog, as after the loss of everything else; return what it refused."""
        rebuild = Rebuild(
            scratch.catalog,
            scratch.recovery,
            scratch.runs,
            self._keys,
            self._backups.over(scratch.dumps),
            patience=lambda: patience,
        )
        use_backup = not drilled.copy_failed
        began = time.monotonic()
        report = await patience.keep(lambda: rebuild.run(source, use_backup=use_backup))
        drilled.catalog_seconds = time.monotonic() - began
        return {finding.blob: finding.reason for finding in report.findings}

    async def _rebuild_some(
        self,
        source: Target,
        wanted: Sequence[Version],
        scratch: Scratch,
        drilled: Drilled,
        patience: Patience,
    ) -> dict[str, str]:
        """Fill the empty catalog from the envelopes of these versions; return what was refused, and why."""
        ids = {version.blob: version.id for version in wanted}
        bad: dict[str, str] = {}
        envelopes = Envelopes(source.store, self._keys, patience=patience)
        began = time.monotonic()

        async def every(offers: Sequence[Offer]) -> set[str]:
            return {offer.blob for offer in offers}

        async with aclosing(_offers(source.store, wanted, bad, patience)) as offers:
            async for batch in envelopes.batches(offers, every):
                opened = await patience.keep(functools.partial(envelopes.open, batch))
                bad |= opened.refused
                swapped = [v for v in opened.found if v.version.id != ids[v.version.blob]]
                bad |= {each.version.blob: "swapped" for each in swapped}
                found = [each for each in opened.found if each.version.blob not in bad]
                if opened.keys is not None and found:
                    bad |= await scratch.recovery.add([opened.keys], found, SCRATCH)
        await scratch.recovery.settle()
        drilled.catalog_seconds = time.monotonic() - began
        return bad

    async def _try(  # noqa: PLR0917 - one step of `run`, with what it knows
        self,
        source: Target,
        page: Sequence[Version],
        scratch: Scratch,
        drilled: Drilled,
        refused: Mapping[str, str],
        patience: Patience,
        began: datetime,
    ) -> None:
        """Restore versions that the empty catalog knows, and compare them with what is in use."""
        place = Target(SCRATCH, Role.PRIMARY, scratch.store)
        trial = Trial(
            scratch,
            Downloads(scratch.catalog, self._keys, lambda: [place]),
            Copier(
                {SCRATCH: scratch.store, source.name: source.store},
                part_size=self._part_size,
                parallel=1,
                rate=self._rate,
            ),
            source.name,
            began,
            patience,
        )
        slots = asyncio.Semaphore(self._at_once)

        async def one(version: Version) -> None:
            async with slots:
                found = refused.get(version.blob) or await trial.run(version)
                if isinstance(found, int):
                    drilled.took(version, found)
                elif found and await self._still_held(source, version):
                    drilled.fail(version.id, found)

        try:
            async with asyncio.TaskGroup() as group:
                for version in page:
                    group.create_task(one(version))
        except BaseExceptionGroup as error:
            raise first(error) from None

    async def _still_held(self, source: Target, version: Version) -> bool:
        """Tell whether the catalog in use still says that the backup has a version.

        One that was purged or found to be damaged while we were at it is no failure of the backup's.
        """
        before = f"{max(int(version.id, 16) - 1, 0):032x}"
        page = await self._replicas.held(source.name, after=before, limit=1)
        return any(held.id == version.id for held in _stored(page))


async def _offers(
    store: Store, wanted: Sequence[Version], bad: dict[str, str], patience: Patience
) -> AsyncGenerator[Offer]:
    """Describe the objects of these versions as they are in the store, tenant by tenant."""
    for version in sorted(wanted, key=lambda version: version.tenant):
        name = functools.partial(store.stat, envelope_key(version.tenant, version.blob))
        beside = functools.partial(store.stat, body_key(version.tenant, version.blob))
        try:
            envelope = await patience.keep(name)
            body = None if version.inline is not None else (await patience.keep(beside)).size
        except ObjectMissing:
            bad[version.blob] = "absent"
            continue
        yield Offer(version.tenant, version.blob, envelope.size, body)


async def _stepped(versions: Sequence[Version]) -> AsyncGenerator[tuple[str, Sequence[Version]]]:
    for start in range(0, len(versions), STEP):
        step = versions[start : start + STEP]
        yield step[-1].id, step


def _stored(page: Sequence[Held]) -> list[Version]:
    return [held.version for held in page if held.state is ReplicaState.STORED]
