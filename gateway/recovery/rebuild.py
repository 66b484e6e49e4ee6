"""Brings a lost catalog back from one target alone.

The newest copy of the catalog that the target holds is loaded first, then the envelopes that are newer
than it are added; without a copy, all of them. Guarantees that nothing is believed which the key service
and the envelope do not prove (`envelopes`), that nothing is readable before everything is there, that an
older version never takes the place of a newer one, and that a rebuild which was killed goes on where it
was, once it is run again. What no target can know is in `UNKNOWN`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.duties.record import take_over
from gateway.errors import CatalogConflict, CatalogError, GatewayError, RunLost, first
from gateway.keys.data_keys import KeyService
from gateway.model import microseconds, moment
from gateway.pacing.patience import Patience
from gateway.ports import REPLACED, Catalog, Recovery, Run, Runs, RunState, Settled
from gateway.recovery.catalog_backup import CatalogBackups, Copy
from gateway.recovery.envelopes import Batch, Envelopes, Listing, Offer
from gateway.targets.quorum import Target

KIND: Final = "rebuild"
LEASE: Final = timedelta(seconds=5)
SKEW: Final = timedelta(minutes=1)  # by how much the clocks of gateways may differ
PATIENCE: Final = 300.0  # seconds to wait for a key service that is busy or away
LISTED: Final = 1000  # findings that a report names one by one

UNKNOWN: Final[Mapping[str, str]] = {
    "trash": "what was in the trash is live again, unless a newer attachment has its reference",
    "tokens": "every token is gone: create new ones",
    "retention": "every tenant has the default retention, without holds",
    "quorum": "every tenant has the configured quorum",
    "operations": "idempotency keys are forgotten: a repeated request is carried out anew",
    "commits": "an upload that was complete and never acknowledged may have become a version",
    "order": "versions that were uploaded at the same moment are ordered by their creation",
    "other targets": "what other targets hold is unknown until they are back-filled or scrubbed",
}
"""What envelopes alone do not tell, and what a rebuild makes of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An envelope that was not taken, and why, in one word."""

    tenant: str
    blob: str
    reason: str


@dataclass(slots=True)
class Report:
    """What a rebuild found and did."""

    target: str
    listing: Listing = field(default_factory=Listing)
    backup: datetime | None = None  # when the copy that was loaded was taken
    envelopes: int = 0  # that the target holds
    known: int = 0  # of them, those that the catalog had
    added: int = 0
    replaced: int = 0  # blobs that a reseal left behind: they are purged in time
    older: int = 0  # than the backup, and not in it: purged before, or of a clock that was slow
    tenants: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    locked: dict[str, str] = field(
        default_factory=dict
    )  # tenants whose keys cannot be had, and why
    findings: list[Finding] = field(default_factory=list)
    newest: datetime | None = None  # creation of the newest version that was found
    settled: Settled = field(default_factory=Settled)
    seconds: float = 0.0

    @property
    def progress(self) -> dict[str, int]:
        """Return the counts that go on record while it runs."""
        refused = sum(self.refused.values())
        return {"envelopes": self.envelopes, "added": self.added, "refused": refused}

    @property
    def clean(self) -> bool:
        """Whether everything that was found was taken, or known to the copy."""
        return not self.refused and not self.older

    @property
    def unknown(self) -> Mapping[str, str]:
        """What cannot be known after this rebuild."""
        if self.backup is None:
            return UNKNOWN
        return {
            "since the backup": "tokens, trash, holds and settings are as they were at that time:"
            " what was revoked or deleted since is back, what is in the trash waits for all of its time",
            **{name: UNKNOWN[name] for name in ("commits", "order", "other targets")},
        }

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "target": self.target,
            "backup": self.backup.isoformat() if self.backup else None,
            "envelopes": self.envelopes,
            "known": self.known,
            "added": self.added,
            "replaced": self.replaced,
            "older_than_backup": self.older,
            "tenants": len(self.tenants),
            "refused": dict(self.refused),
            "locked_tenants": self.locked,
            "findings": [[each.tenant, each.blob, each.reason] for each in self.findings],
            "bodies_without_envelope": self.listing.bodies,
            "strange_objects": self.listing.strange,
            "newest": self.newest.isoformat() if self.newest else None,
            "superseded": self.settled.superseded,
            "seconds": round(self.seconds, 3),
            "unknown": dict(self.unknown),
        }


Told = Callable[[Report], None]


def _silent(report: Report) -> None:
    del report


class Rebuild:
    """The use case, over one catalog and one key service.

    `lease` is how long a rebuild that died stands in the way of the next; `patience` gives each run what
    a key service that is busy or away is waited for with.
    """

    def __init__(
        self,
        catalog: Catalog,
        recovery: Recovery,
        runs: Runs,
        keys: KeyService,
        backups: CatalogBackups,
        *,
        lease: timedelta | None = None,
        patience: Callable[[], Patience] = lambda: Patience(PATIENCE),
    ) -> None:
        self._catalog = catalog
        self._recovery = recovery
        self._runs = runs
        self._keys = keys
        self._backups = backups
        self._lease = LEASE if lease is None else lease
        self._patience = patience

    async def look(self, source: Target, *, told: Told = _silent) -> Report:
        """Tell what a target holds, and change nothing. Raises StoreErrors and KeyServiceErrors."""
        report = Report(source.name)
        began = time.monotonic()
        copy = await self._backups.newest(source)
        report.backup = None if copy is None else copy.taken

        async def count(batch: Batch) -> None:
            report.added += len(batch.found)
            _count(batch, report)
            told(report)

        await self._walk(source, report, count)
        report.seconds = time.monotonic() - began
        return report

    async def run(
        self, source: Target, *, merge: bool = False, use_backup: bool = True, told: Told = _silent
    ) -> Report:
        """Rebuild from a target, or go on with what was begun.

        `merge` adds to a catalog that is in use; `told` is called with the report as it grows.
        Raises CatalogConflict when the catalog is in use and `merge` is not given, AlreadyRunning,
        RunLost, StoreErrors, KeyServiceErrors and CatalogErrors; it may be run again after any of them.
        """
        report = Report(source.name)
        began = time.monotonic()
        async with self._claimed(source) as ledger:
            if not ledger.run.cursor:
                if not merge and not await self._recovery.empty():
                    raise CatalogConflict("the catalog is in use: say --merge to add what it lacks")
                if merge or not use_backup:
                    await ledger.note("adding")
            since = await self._load(source, ledger, report)

            async def add(batch: Batch) -> None:
                await self._add(batch, source, since, report)
                await ledger.beat(report)
                told(report)

            await self._walk(source, report, add)
            report.settled = await self._recovery.settle()
            report.seconds = time.monotonic() - began
            ledger.outcome = report.as_json()
        return report

    async def _load(self, source: Target, ledger: "_Ledger", report: Report) -> datetime | None:
        """Load the newest copy, unless that was done; return since when envelopes count."""
        word, _, rest = ledger.run.cursor.partition(" ")
        if word == "adding":
            report.backup = moment(int(rest)) if rest else None
            return report.backup and report.backup - SKEW
        copies = await self._backups.copies(source)
        if word == "loading":  # the same one: it may have been loaded just before the end
            copies = [copy for copy in copies if copy.blob == rest]
            if copies and not await self._untouched():
                return await self._loaded(copies[0], ledger, report)
        if not copies:
            await ledger.note("adding")
            return None
        await ledger.note(f"loading {copies[0].blob}")
        await self._backups.restore(source, copies[0])
        return await self._loaded(copies[0], ledger, report)

    async def _untouched(self) -> bool:
        return await self._recovery.empty() and not await self._catalog.tenants(None, 1)

    async def _loaded(self, copy: Copy, ledger: "_Ledger", report: Report) -> datetime:
        await ledger.note(f"adding {microseconds(copy.taken)}")
        report.backup = copy.taken
        return copy.taken - SKEW

    async def _walk(
        self, source: Target, report: Report, take: Callable[[Batch], Awaitable[None]]
    ) -> None:
        """Take what the catalog lacks, batch by batch; the next one is read while one is dealt with."""
        envelopes = Envelopes(source.store, self._keys, patience=self._patience())
        ready: asyncio.Queue[Batch | None] = asyncio.Queue(1)
        begun = frozenset[str]()

        async def wanted(offers: Sequence[Offer]) -> set[str]:
            nonlocal begun
            listed = [offer.blob for offer in offers]
            # First: what became a version, and was purged, in between is gone before it is read.
            begun = await self._catalog.running(listed)
            blobs = await self._recovery.missing(listed)
            report.envelopes += len(offers)
            report.known += len(offers) - len(blobs)
            return set(blobs)

        async def read() -> None:
            async with aclosing(envelopes.offers(report.listing)) as offers:
                async for batch in envelopes.batches(offers, wanted):
                    if batch:
                        await ready.put(replace(await envelopes.open(batch), begun=begun))
            await ready.put(None)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                while (batch := await ready.get()) is not None:
                    await take(batch)
        except BaseExceptionGroup as error:
            raise first(error) from None

    async def _add(
        self, batch: Batch, source: Target, since: datetime | None, report: Report
    ) -> None:
        found = batch.found
        if since is not None:
            pending = await self._catalog.running([each.version.blob for each in found])
            found = [
                each
                for each in found
                if (each.sealed or each.version.created) >= since or each.version.blob in pending
            ]
            report.older += len(batch.found) - len(found)
        contradicted: dict[str, str] = {}
        if found and batch.keys is not None:
            contradicted = dict(
                await self._recovery.add([batch.keys], found, source.name, batch.begun)
            )
        replaced = [blob for blob, reason in contradicted.items() if reason == REPLACED]
        report.added += len(found) - len(contradicted)
        report.replaced += len(replaced)
        for blob in replaced:
            del contradicted[blob]
        _count(replace(batch, refused={**batch.refused, **contradicted}), report)

    @asynccontextmanager
    async def _claimed(self, source: Target) -> AsyncIterator["_Ledger"]:
        """Hold the run of this target, and put on record how it ended."""
        refusal = "somebody else rebuilds the catalog from this target now"
        run = await take_over(
            self._runs, KIND, source.name, lease=self._lease, patience=2, refusal=refusal
        )
        ledger, ended = _Ledger(self._runs, run), False
        try:
            yield ledger
            await self._runs.end(ledger.run, RunState.DONE, ledger.outcome)
            ended = True
        except GatewayError as error:
            # What was begun stays begun, so that the next one goes on; only a refusal ends it.
            if not ledger.run.cursor:
                outcome = {"error": type(error).__name__}
                ended = await self._runs.end(ledger.run, RunState.FAILED, outcome)
            raise
        finally:
            if not ended:
                with suppress(CatalogError):
                    await self._runs.release(ledger.run)


def _count(batch: Batch, report: Report) -> None:
    if batch.keys is None and len(report.locked) < LISTED:
        report.locked[batch.tenant] = batch.reason
    report.refused.update(batch.refused.values())
    room = LISTED - len(report.findings)
    report.findings += [
        Finding(batch.tenant, blob, reason)
        for blob, reason in list(batch.refused.items())[: max(room, 0)]
    ]
    if batch.found:
        report.tenants.add(batch.tenant)
    newest = [each.version.created for each in batch.found]
    report.newest = max([*newest, *([report.newest] if report.newest else [])], default=None)


class _Ledger:
    """The run's row: where it is, and that it is still at it."""

    def __init__(self, runs: Runs, run: Run) -> None:
        self._runs = runs
        self.run = run
        self.outcome: Mapping[str, object] = {}

    async def note(self, cursor: str) -> None:
        """Put on record where to go on."""
        await self._save(replace(self.run, cursor=cursor))

    async def beat(self, report: Report) -> None:
        """Put on record that it goes on."""
        await self._save(replace(self.run, progress=report.progress))

    async def _save(self, run: Run) -> None:
        self.run = run
        if not await self._runs.save(run):
            raise RunLost("somebody else took this rebuild over")
