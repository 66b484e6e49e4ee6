"""Gives many versions new data keys: a tenant's, everybody's, or one attachment's, several at a time.

Guarantees that what is done is not done again: the moment before which data keys count as old is on record,
so that a run which was killed, or in which something failed, goes on with it when it is asked for again; that
the row says no more than was done; and that one version that cannot be resealed keeps no other from it.
A tenant whose keys are suspended or destroyed is left as it is. While the key service or the catalog is
away it waits, and then gives up: nothing is lost by that. Memory depends on how many are under way.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from gateway.errors import (
    Busy,
    CatalogConflict,
    DigestMismatch,
    GatewayError,
    StoreError,
    StoreFull,
    Unreadable,
    first,
)
from gateway.model import Version, microseconds, moment
from gateway.pacing.patience import Patience
from gateway.ports import Replicas, Run
from gateway.repair.verify import known_envelope
from gateway.rotation.reseal import Outcome
from gateway.targets.quorum import QuorumLost
from keyservice.wire import CannotUnwrap, Denied, Shredded, Suspended, UnknownTenant

log = structlog.get_logger()
PAGE: Final = 100  # versions with their inline bodies: some 13 MiB at most
PATIENCE: Final = 300.0  # seconds to wait for a key service or a catalog that is away
AHEAD: Final = 100_000  # versions that may be done while one takes its time
GIVE_UP: Final = 20  # failures of targets in a row, after which they are taken for gone
LISTED: Final = 1000  # failures that a report names one by one
_REFUSED: Final = (Suspended, Shredded, UnknownTenant, Denied)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which versions: of one tenant or of all, of one attachment (by its random id), or one of them."""

    tenant: str | None = None
    attachment: str | None = None
    version: str | None = None

    @property
    def subject(self) -> str:
        """What tells a run of it from others."""
        return " ".join(each for each in (self.tenant, self.attachment, self.version) if each)


@dataclass(slots=True)
class Tally:
    """What a run did. `bytes` are those of the versions that were resealed, as they were stored."""

    seen: int = 0
    seen_bytes: int = 0
    resealed: int = 0
    bytes: int = 0
    recent: int = 0
    gone: int = 0
    overtaken: int = 0
    left: int = 0  # of tenants that were refused
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # the first, by version
    refused: dict[str, str] = field(default_factory=dict)  # tenants, and why

    def fail(self, version: Version, reason: str) -> None:
        """Count one that failed."""
        self.failed += 1
        if len(self.failures) < LISTED:
            self.failures[version.id] = reason

    def add(self, other: "Tally") -> None:
        """Add what another run did."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures |= other.failures
        self.refused |= other.refused

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**numbers, "failures": self.failures, "refused": self.refused}

    def counts(self, before: Mapping[str, int]) -> dict[str, int]:
        """Return what goes on record, on top of what is there from an earlier try."""
        counted = {name: getattr(self, name) + before.get(name, 0) for name in _DONE}
        return {**counted, "left": self.left, "failed": self.failed}


_DONE: Final = ("resealed", "bytes", "recent", "gone", "overtaken")
_NUMBERS: Final = ("seen", "seen_bytes", *_DONE, "left", "failed")


class Ledger(Protocol):
    """What a run has of its row."""

    @property
    def run(self) -> Run:
        """Where to go on from."""

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Keep how far it got."""


class Sealer(Protocol):
    """What is done with one version; `gateway.rotation.reseal.Reseal` does it."""

    async def version(self, tenant: str, version: str, *, before: datetime) -> Outcome:
        """Reseal it if its data key was made before that time."""


class Unfinished(GatewayError):
    """Some versions could not be resealed; the same command tries those again."""


class Reseals:
    """The use case. `told` hears of the stored size of each version that is settled."""

    def __init__(
        self,
        sealer: Sealer,
        replicas: Replicas,
        target: str,
        *,
        parallel: int,
        patience: float = PATIENCE,
    ) -> None:
        self._sealer = sealer
        self._replicas = replicas
        self._target = target  # any: every version is listed, whatever it holds
        self._parallel = parallel
        self._patience = Patience(patience)

    async def run(
        self,
        scope: Scope,
        ledger: Ledger,
        *,
        before: datetime,
        tally: Tally,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Reseal what is under a data key older than `before`, or than what the row says of it.

        Raises Unfinished when something failed, and the error by which nothing can go on: run it again
        after either. A tenant whose keys may not be used is left as it is, and this ends well.
        """
        before = begun(ledger.run) or before
        after = ledger.run.cursor.partition(" ")[2]
        earlier = dict(ledger.run.progress)

        async def reached(version: str) -> None:
            await ledger.save(f"{microseconds(before)} {version}", tally.counts(earlier))

        await reached(after)
        work = _Work(self, scope, before, tally, told)
        try:
            await work.all(after, self._parallel, reached)
        except BaseExceptionGroup as error:
            if not isinstance(cause := first(error), _Refused):
                raise cause from None
        if tally.failed:
            await reached("")
            raise Unfinished("not everything could be resealed: run it again to try the rest")

    async def look(self, scope: Scope, *, before: datetime, tally: Tally) -> None:
        """Count what would be resealed, and do nothing. Raises CatalogErrors."""
        async with aclosing(self.versions(scope, None)) as versions:
            async for version in versions:
                tally.seen += 1
                tally.seen_bytes += stored_size(version)
                try:
                    old = known_envelope(version).core.sealed < microseconds(before)
                except Unreadable as error:
                    tally.fail(version, str(error))
                    continue
                tally.recent += not old
                if old:
                    tally.resealed += 1
                    tally.bytes += stored_size(version)

    async def versions(self, scope: Scope, after: str | None) -> AsyncGenerator[Version]:
        """Yield what is meant, in order of id, those in the trash too. Raises CatalogErrors."""
        while page := await self._replicas.held(
            self._target, after=after, limit=PAGE, tenant=scope.tenant, attachment=scope.attachment
        ):
            for held in page:
                if scope.version in {None, held.version.id}:
                    yield held.version
            after = page[-1].version.id

    async def one(self, version: Version, before: datetime) -> Outcome:
        """Reseal one, waiting for whom it needs. Raises what does not pass, or not soon enough."""
        return await self._patience.keep(
            lambda: self._sealer.version(version.tenant, version.id, before=before)
        )


class _Work:
    """What one run does with each version, and what it makes of how that ended."""

    def __init__(
        self,
        reseals: Reseals,
        scope: Scope,
        before: datetime,
        tally: Tally,
        told: Callable[[int], None],
    ) -> None:
        self._reseals = reseals
        self._scope = scope
        self._before = before
        self._tally = tally
        self._told = told
        self._in_vain = 0

    async def all(
        self, after: str, parallel: int, reached: Callable[[str], Awaitable[None]]
    ) -> None:
        """Go through all versions behind `after`. Raises a group of what ends the run."""
        queue: asyncio.Queue[Version | None] = asyncio.Queue(parallel)
        line, ahead = _Line(after), asyncio.Semaphore(AHEAD)

        async def feed() -> None:
            async with aclosing(self._reseals.versions(self._scope, after or None)) as versions:
                async for version in versions:
                    await ahead.acquire()
                    await queue.put(version)
            for _ in range(parallel):
                await queue.put(None)

        async def take() -> None:
            while (version := await queue.get()) is not None:
                line.begin(version.id)
                await self.one(version)
                for _ in range(line.end(version.id)):
                    ahead.release()
                await reached(line.reached)

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            for _ in range(parallel):
                group.create_task(take())

    async def one(self, version: Version) -> None:
        """Reseal one version and count it. Raises only what ends the run."""
        tally, size = self._tally, stored_size(version)
        tally.seen += 1
        tally.seen_bytes += size
        if version.tenant not in tally.refused:
            await self._try(version, size)
        else:
            tally.left += 1
        self._told(size)

    async def _try(self, version: Version, size: int) -> None:
        tally = self._tally
        try:
            outcome = await self._reseals.one(version, self._before)
        except _REFUSED as error:
            tally.refused[version.tenant] = error.code
            tally.left += 1
            if self._scope.tenant is not None:
                raise _Refused from None  # nothing else is left to do
        except CannotUnwrap:
            self._failed(version, "its key cannot be opened")
        except (Unreadable, DigestMismatch, CatalogConflict) as error:
            self._failed(version, str(error))
        except (StoreError, QuorumLost, Busy) as error:
            self._failed(version, str(error) or type(error).__name__)
            self._in_vain += 1
            if isinstance(error, StoreFull) or self._in_vain >= GIVE_UP:
                raise
        else:
            self._in_vain = 0
            self._count(outcome, size)

    def _count(self, outcome: Outcome, size: int) -> None:
        tally = self._tally
        if outcome is Outcome.RESEALED:
            tally.resealed += 1
            tally.bytes += size
        elif outcome is Outcome.RECENT:
            tally.recent += 1
        elif outcome is Outcome.GONE:
            tally.gone += 1
        else:
            tally.overtaken += 1

    def _failed(self, version: Version, reason: str) -> None:
        log.warning("version not resealed", version=version.id, reason=reason)
        self._tally.fail(version, reason)


class _Line:
    """Versions that were begun in order and end in any: up to where all of them have ended."""

    def __init__(self, reached: str) -> None:
        self.reached = reached
        self._begun: deque[str] = deque()
        self._ended: set[str] = set()

    def begin(self, version: str) -> None:
        """Note one that begins; ids only grow."""
        self._begun.append(version)

    def end(self, version: str) -> int:
        """Note one that ended; return by how many this gets further."""
        self._ended.add(version)
        further = 0
        while self._begun and self._begun[0] in self._ended:
            self.reached = self._begun.popleft()
            self._ended.discard(self.reached)
            further += 1
        return further


class _Refused(Exception):
    """The tenant that was named is refused."""


def begun(run: Run) -> datetime | None:
    """Return the time by which a run goes by that is to go on; None for one that begins."""
    word = run.cursor.partition(" ")[0]
    return moment(int(word)) if word else None


def stored_size(version: Version) -> int:
    """Return how many bytes a store holds of a version."""
    return version.body_size + len(version.envelope) + len(version.inline or b"")
