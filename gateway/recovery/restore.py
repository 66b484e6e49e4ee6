"""Brings back many versions at once, journalled: the part that every kind of restore shares.

Guarantees that every version is either settled (restored, skipped because it is there and whole, verified,
or refused) or counted as failed with its reason; that a run which was killed at any point goes on and
ends as if it had not been; and that memory depends on how many are under way, not on how many there are,
but for what an interrupted journal names (about a hundred bytes each). What is done with one version is
its `Work`'s: see `gateway.recovery.refill` and `gateway.recovery.export`.
"""

import asyncio
import enum
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from gateway.errors import Unreadable
from gateway.model import Version
from gateway.recovery.journal import Entry, Journal, Tally

FLUSH: Final = 0.5  # seconds between batches of the journal
BATCH: Final = 256


class Outcome(enum.StrEnum):
    """What became of one version."""

    RESTORED = "restored"  # written, verified as it streamed
    SKIPPED = "skipped"  # there already, and whole
    VERIFIED = "verified"  # could be restored; nothing was written
    REFUSED = "refused"  # its tenant's keys are destroyed, or nobody knows them
    FAILED = "failed"


SETTLED: Final = (Outcome.RESTORED.value, Outcome.SKIPPED.value, Outcome.VERIFIED.value)


@dataclass(frozen=True, slots=True)
class Scope:
    """What to restore: one attachment, one tenant, or everything (both None); `since` when it was stored.

    `version` names one version of the attachment.
    """

    tenant: str | None = None
    reference: str | None = field(default=None, repr=False)
    version: str | None = None
    since: datetime | None = None

    def takes(self, version: Version) -> bool:
        """Tell whether a version of the tenant or attachment is meant."""
        late = self.since is None or version.created >= self.since
        return late and self.version in {None, version.id}

    def about(self) -> dict[str, Any]:
        """Return what tells this scope from another, without the name that a user chose."""
        named = None
        if self.reference is not None:
            named = hashlib.sha256(f"{self.tenant}/{self.reference}".encode()).hexdigest()
        return {
            "tenant": self.tenant,
            "attachment": named,
            "version": self.version,
            "since": self.since.isoformat() if self.since else None,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one version. `size` is in bytes as its work counts them."""

    version: Version = field(repr=False)
    outcome: Outcome
    size: int
    source: str = ""
    reason: str = ""


class Work(Protocol):
    """What is done with each version. Every method may be called from many tasks at once."""

    def versions(self) -> AsyncGenerator[Version]:
        """Yield every version that is meant, in an order of its own."""

    def size(self, version: Version) -> int:
        """Return how many bytes a version counts for."""

    async def present(self, version: Version) -> bool:
        """Look quickly whether a version that a journal calls settled still is.

        Raises Unreadable where the catalog's own record is no measure.
        """

    async def do(self, version: Version) -> Result:
        """Bring one version back. Raises only what must end the whole run."""

    async def record(self, results: Sequence[Result]) -> None:
        """Keep what was found, before the journal says that it was done."""


@dataclass(slots=True)
class Troubles:
    """What was not brought back, and why: versions that failed, tenants that were refused.

    The first `most` of each; a journal has them all.
    """

    most: int = 10_000
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def note(self, result: Result) -> None:
        """Keep the reason of one result, if it is one of these."""
        if result.outcome is Outcome.FAILED and len(self.failed) < self.most:
            self.failed[result.version.id] = result.reason
        elif result.outcome is Outcome.REFUSED and len(self.refused) < self.most:
            self.refused[result.version.tenant] = result.reason


class Preview:
    """A work that looks what another one would do, quickly, and does nothing."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def versions(self) -> AsyncGenerator[Version]:
        """See `Work`."""
        return self._work.versions()

    def size(self, version: Version) -> int:
        """See `Work`."""
        return self._work.size(version)

    async def present(self, version: Version) -> bool:
        """See `Work`."""
        return await self._work.present(version)

    async def do(self, version: Version) -> Result:
        """See `Work`: what is not there would be restored. Bodies are not read."""
        try:
            outcome = Outcome.SKIPPED if await self.present(version) else Outcome.RESTORED
        except Unreadable as error:
            return Result(version, Outcome.FAILED, self.size(version), reason=str(error))
        return Result(version, outcome, self.size(version))

    async def record(self, results: Sequence[Result]) -> None:
        """See `Work`: nothing is kept."""


class Restore:
    """One run of one work, with `parallel` versions under way at a time.

    `refusal` says why nothing of a tenant is brought back, empty when it may be; `told` hears of every
    result as it comes. Without a journal a run that was killed begins anew.
    """

    def __init__(
        self,
        work: Work,
        journal: Journal | None = None,
        *,
        refusal: Callable[[str], Awaitable[str]],
        parallel: int = 8,
        told: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self.tally = Tally() if journal is None else journal.tally
        self.troubles = Troubles()
        self._work = work
        self._journal = journal
        self._refusal = refusal
        self._parallel = parallel
        self._told = told
        self._results: list[Result] = []  # and as they are written, until they are
        self._entries: list[Entry] = []
        self._over = False
        self._writing = asyncio.Lock()
        self._full = asyncio.Event()

    async def run(self) -> None:
        """Go through all versions. What was done is in the journal, also when this raises.

        Raises what the work raises, and what `refusal` does.
        """
        queue: asyncio.Queue[Version | None] = asyncio.Queue(self._parallel)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._flush_often())
                async with asyncio.TaskGroup() as working:
                    working.create_task(self._feed(queue))
                    for _ in range(self._parallel):
                        working.create_task(self._take(queue))
                self._over = True  # not cancelled: it may be writing
                self._full.set()
        finally:
            await self._flush()

    async def _feed(self, queue: asyncio.Queue[Version | None]) -> None:
        async with aclosing(self._work.versions()) as versions:
            async for version in versions:
                await queue.put(version)
        for _ in range(self._parallel):
            await queue.put(None)

    async def _take(self, queue: asyncio.Queue[Version | None]) -> None:
        while (version := await queue.get()) is not None:
            # A journal says what was done, not that it is still there.
            settled = bytes.fromhex(version.id) in self.tally.settled
            if settled and await self._present(version):
                self._told(Result(version, Outcome.SKIPPED, self._work.size(version)))
                continue
            result = await self._one(version)
            entry = _entry(result)
            self.tally.add(entry)
            self.troubles.note(result)
            self._results.append(result)
            self._entries.append(entry)
            if len(self._results) >= BATCH:
                self._full.set()
            self._told(result)

    async def _present(self, version: Version) -> bool:
        try:
            return await self._work.present(version)
        except Unreadable:
            return False  # whoever does it again says what is wrong

    async def _one(self, version: Version) -> Result:
        if reason := await self._refusal(version.tenant):
            return Result(version, Outcome.REFUSED, self._work.size(version), reason=reason)
        return await self._work.do(version)

    async def _flush_often(self) -> None:
        while not self._over:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._full.wait()
            self._full.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Record what was found, then write the journal, which so never claims too much."""
        async with self._writing:
            count = len(self._results)
            if not count:
                return
            await self._work.record(self._results[:count])
            if self._journal is not None:
                await asyncio.to_thread(self._journal.write, self._entries[:count])
            # Only now: if this is cancelled on the way, the last flush does it again.
            del self._results[:count], self._entries[:count]


async def anyone(tenant: str) -> str:
    """Refuse nobody: for whoever decided not to ask the key service."""
    del tenant
    return ""


def _entry(result: Result) -> Entry:
    return Entry(
        version=result.version.id,
        tenant=result.version.tenant,
        outcome=result.outcome.value,
        size=result.size,
        source=result.source,
        reason=result.reason,
    )
