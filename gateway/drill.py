"""Proves that a backup can be restored from: into an empty catalog and an empty store, opened, compared.

Guarantees that what counts as good came from the backup alone: its envelope was proven and put into an
empty catalog, its body copied into an empty store, opened there, and every byte of it authenticated; that
its length and digests are those that the catalog in use knows; and that plaintext is only ever in memory.
The newest copy of the catalog is loaded into an empty one as well. What the catalog in use says is missing
on the backup is no failure: it is how far the backup is behind, and told as such.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from envelope.envelope import decode
from envelope.errors import EnvelopeError
from gateway.catalog_backup import CatalogBackups, Copy
from gateway.copying import Copier
from gateway.digests import INTERNAL, SUPPORTED, Digests
from gateway.downloads import Downloads
from gateway.envelopes import Envelopes, Offer
from gateway.errors import DigestMismatch, GatewayError, NotFound, ObjectMissing, StoreError, first
from gateway.keys import KeyService
from gateway.model import ReplicaState, Version, body_key, envelope_key, new_id, now
from gateway.ports import Catalog, Dumps, Held, Recovery, Replicas, Runs, Store
from gateway.quorum import Role, Target
from gateway.rate import Rate
from gateway.rebuild import SKEW, Rebuild
from gateway.record import on_record
from keyservice.wire import KeyServiceError

KIND: Final = "drill"
EVERYTHING: Final = "full-drill"
SAMPLE: Final = 100
AT_ONCE: Final = 4
PAGE: Final = 200
LISTED: Final = 100
SCRATCH: Final = "scratch"


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty catalog and an empty store, which are gone afterwards."""

    catalog: Catalog
    recovery: Recovery
    dumps: Dumps
    runs: Runs
    store: Store


@dataclass(slots=True)
class Drilled:
    """What a drill did and found."""

    source: str
    everything: bool
    started: datetime
    checked: int = 0
    bytes: int = 0  # of plaintext that was opened and compared
    missing: int = 0  # versions that the catalog in use says this backup lacks
    failures: list[tuple[str, str]] = field(default_factory=list)  # version, why; the first of them
    failed: int = 0
    copy: datetime | None = None  # when the copy of the catalog that was loaded was taken
    copy_rows: int = 0
    copy_failed: str = ""
    newest: datetime | None = None  # creation of the newest version that was opened
    catalog_seconds: float = 0.0  # until the empty catalog was filled
    rpo: float = 0.0  # seconds: since when the longest waiting version is missing on the backup
    rto: float = 0.0  # seconds until everything that was asked for had been restored and opened

    @property
    def good(self) -> bool:
        """Whether nothing failed, and there was something, if there should have been."""
        return not self.failed and not self.copy_failed and bool(self.checked or not self.missing)

    def fail(self, version: str, why: str) -> None:
        """Count a version that could not be restored as it was."""
        self.failed += 1
        if len(self.failures) < LISTED:
            self.failures.append((version, why))

    def as_json(self) -> dict[str, Any]:
        """Return it for programs, and for the record."""
        return {
            "source": self.source,
            "everything": self.everything,
            "started": self.started.isoformat(),
            "good": self.good,
            "checked": self.checked,
            "bytes": self.bytes,
            "failed": self.failed,
            "failures": [list(each) for each in self.failures],
            "missing": self.missing,
            "catalog_copy": self.copy.isoformat() if self.copy else None,
            "catalog_copy_rows": self.copy_rows,
            "catalog_copy_failed": self.copy_failed,
            "newest": self.newest.isoformat() if self.newest else None,
            "catalog_seconds": round(self.catalog_seconds, 3),
            "rpo_seconds": round(self.rpo, 3),
            "rto_seconds": round(self.rto, 3),
        }


Told = Callable[[Drilled], None]


def _silent(drilled: Drilled) -> None:
    del drilled


class Drill:
    """The use case. `scratch` opens what is restored into; `rate` bounds what is read from the backup."""

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

    async def record(
        self,
        source: Target,
        *,
        everything: bool = False,
        sample: int | None = None,
        told: Told = _silent,
    ) -> Drilled:
        """Do as `run`, and put it on record. Raises AlreadyRunning, too."""
        kind = EVERYTHING if everything else KIND
        async with on_record(self._runs, kind, source.name) as entry:
            drilled = await self.run(source, everything=everything, sample=sample, told=told)
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
    ) -> Drilled:
        """Restore a random sample, or everything, from one target, and compare.

        Raises CatalogErrors, KeyServiceErrors, and StoreErrors when the target does not answer at all;
        what is wrong with one version is in the report.
        """
        drilled = Drilled(source.name, everything, now())
        began = time.monotonic()
        (lag,) = await self._replicas.lag([source.name])
        drilled.missing = lag.objects
        if lag.oldest is not None:
            drilled.rpo = max((drilled.started - lag.oldest).total_seconds(), 0.0)
        await self._load_copy(source, drilled)
        async with self._scratch() as scratch:
            if everything:
                await self._rebuild_all(source, scratch, drilled)
                async with aclosing(self._all(source)) as pages:
                    async for page in pages:
                        await self._try(source, page, scratch, drilled)
                        told(drilled)
            else:
                chosen = await self._choose(source, sample or self._sample)
                refused = await self._rebuild_some(source, chosen, scratch, drilled)
                good = [version for version in chosen if version.id not in refused]
                for start in range(0, len(good), PAGE):
                    await self._try(source, good[start : start + PAGE], scratch, drilled)
                    told(drilled)
        drilled.rto = time.monotonic() - began
        return drilled

    async def _load_copy(self, source: Target, drilled: Drilled) -> None:
        """Load the newest copy of the catalog into an empty one."""
        copy: Copy | None = await self._backups.newest(source)
        if copy is None:
            return
        drilled.copy = copy.taken
        async with self._scratch() as scratch:
            try:
                rows = await self._backups.over(scratch.dumps).restore(source, copy)
            except GatewayError as error:
                drilled.copy_failed = type(error).__name__
            else:
                drilled.copy_rows = sum(rows.values())

    async def _all(self, source: Target) -> AsyncGenerator[Sequence[Version]]:
        after = None
        while page := await self._replicas.held(source.name, after=after, limit=PAGE):
            after = page[-1].version.id
            yield _stored(page)

    async def _choose(self, source: Target, count: int) -> Sequence[Version]:
        """Choose at random: ids are random, so whichever follows a random one is as good as any."""
        chosen: dict[str, Version] = {}
        for _ in range(count):
            page = await self._replicas.held(source.name, after=new_id(), limit=1)
            page = page or await self._replicas.held(source.name, limit=1)
            chosen |= {version.id: version for version in _stored(page)}
        return list(chosen.values())

    async def _rebuild_all(self, source: Target, scratch: Scratch, drilled: Drilled) -> None:
        """Rebuild the empty catalog from the backup, as after the loss of everything else."""
        backups = self._backups.over(scratch.dumps)
        rebuild = Rebuild(scratch.catalog, scratch.recovery, scratch.runs, self._keys, backups)
        began = time.monotonic()
        await rebuild.run(source, use_backup=not drilled.copy_failed)
        drilled.catalog_seconds = time.monotonic() - began

    async def _rebuild_some(
        self, source: Target, wanted: Sequence[Version], scratch: Scratch, drilled: Drilled
    ) -> frozenset[str]:
        """Fill the empty catalog from the envelopes of these versions; return those refused."""
        ids = {version.blob: version.id for version in wanted}
        bad: dict[str, str] = {}
        envelopes = Envelopes(source.store, self._keys)
        began = time.monotonic()

        async def every(offers: Sequence[Offer]) -> set[str]:
            return {offer.blob for offer in offers}

        async with aclosing(_offers(source.store, wanted, bad)) as offers:
            async for batch in envelopes.batches(offers, every):
                opened = await envelopes.open(batch)
                bad |= opened.refused
                swapped = [v for v in opened.found if v.version.id != ids[v.version.blob]]
                bad |= {each.version.blob: "swapped" for each in swapped}
                found = [each for each in opened.found if each.version.blob not in bad]
                if opened.keys is not None and found:
                    bad |= await scratch.recovery.add([opened.keys], found, SCRATCH)
        await scratch.recovery.settle()
        drilled.catalog_seconds = time.monotonic() - began
        for blob, reason in bad.items():
            drilled.fail(ids[blob], reason)
        return frozenset(ids[blob] for blob in bad)

    async def _try(
        self, source: Target, page: Sequence[Version], scratch: Scratch, drilled: Drilled
    ) -> None:
        """Restore versions that the empty catalog knows, and compare them with what is in use."""
        place = Target(SCRATCH, Role.PRIMARY, scratch.store)
        trial = _Trial(
            scratch,
            Downloads(scratch.catalog, self._keys, lambda: [place]),
            Copier(
                {SCRATCH: scratch.store, source.name: source.store},
                part_size=self._part_size,
                parallel=1,
                rate=self._rate,
            ),
            source.name,
            drilled,
        )
        slots = asyncio.Semaphore(self._at_once)

        async def one(version: Version) -> None:
            async with slots:
                await trial.run(version)

        try:
            async with asyncio.TaskGroup() as group:
                for version in page:
                    group.create_task(one(version))
        except BaseExceptionGroup as error:
            raise first(error) from None


async def _offers(
    store: Store, wanted: Sequence[Version], bad: dict[str, str]
) -> AsyncGenerator[Offer]:
    """Describe the objects of these versions as they are in the store, tenant by tenant."""
    for version in sorted(wanted, key=lambda version: version.tenant):
        try:
            envelope = await store.stat(envelope_key(version.tenant, version.blob))
            body = None
            if version.inline is None:
                body = (await store.stat(body_key(version.tenant, version.blob))).size
        except ObjectMissing:
            bad[version.blob] = "absent"
            continue
        yield Offer(version.tenant, version.blob, envelope.size, body)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is done with one version once the empty catalog knows it."""

    scratch: Scratch
    downloads: Downloads
    copier: Copier
    source: str
    drilled: Drilled

    async def run(self, version: Version) -> None:
        """Restore, open and compare one version."""
        try:
            found = await self.scratch.catalog.by_version(version.tenant, version.id)
        except NotFound:
            if version.created < self.drilled.started - SKEW:  # else it came while we were at it
                self.drilled.fail(version.id, "absent")
            return
        found = replace(found, replicas={SCRATCH: ReplicaState.STORED})
        try:
            _compare(version, found.version)
            await self.copier.fill(found.version, SCRATCH, [self.source], replace=False)
            opened = await self.downloads.open(found, request_id="drill")
            expected = {
                name: value
                for name, value in opened.attributes.digests.items()
                if name in {*SUPPORTED, INTERNAL}
            }
            digests, size = Digests(expected), 0
            async with aclosing(self.downloads.read(opened, 0, opened.size)) as stream:
                async for piece in stream:
                    digests.update(piece)
                    size += len(piece)
            digests.verify(expected)
            if size != version.size:
                raise DigestMismatch("the content has another length")
        except (GatewayError, KeyServiceError, EnvelopeError) as error:
            self.drilled.fail(version.id, type(error).__name__)
            return
        finally:
            await self._clear(found.version)
        self.drilled.checked += 1
        self.drilled.bytes += size
        self.drilled.newest = max(version.created, self.drilled.newest or version.created)

    async def _clear(self, version: Version) -> None:
        """Make room for the next: the scratch store never holds more than is under way."""
        try:
            await self.copier.clear(version, SCRATCH)
        except StoreError:
            return  # it goes with the scratch store


def _stored(page: Sequence[Held]) -> list[Version]:
    return [held.version for held in page if held.state is ReplicaState.STORED]


def _compare(known: Version, found: Version) -> None:
    """Raise DigestMismatch unless the backup's version is the one that the catalog in use knows."""
    ours, theirs = decode(known.envelope), decode(found.envelope)
    if (ours.core, ours.attributes) != (theirs.core, theirs.attributes):
        raise DigestMismatch("the backup has another version than the catalog in use")
