"""The key journal: for each tenant, what was done with its keys, and how often they were used.

Guarantees: a change is on the journal before anything is changed (`begun`) and its outcome before it is
answered (`done`), so where the journal cannot be written nothing is changed; a use is never refused for
the journal's sake: uses are summed up in memory, and written every `every` seconds and at the end. What
was summed up and not yet written is lost with the process (the audit file has every use). Lines are only
added, each once, by any number of instances; `journal_entry` has their form. It keeps no key and no data.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import secrets
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from envelope.signature import Signer
from keyservice.errors import Conflict, KeyServiceError, Unavailable, UnknownTenant
from keyservice.journal.entry import (
    BEGUN,
    DONE,
    GENESIS,
    REMOVED,
    USES,
    JournalPage,
    digest,
    from_text,
    to_text,
)
from keyservice.journal.uses import Summary, merge
from keyservice.ports import JournalStore
from keyservice.records import is_tenant

EVERY: Final = 3600.0
TRIES: Final = 30
HEADS: Final = 10_000
CAPACITY: Final = 100_000  # distinct uses that wait to be written
AT_ONCE: Final = 8
MAX_LAST: Final = 100  # KEKs of which an entry carries the last use
MAX_PAGE: Final = 1000
MAX_BYTES: Final = 1 << 20  # of a page, but for the last lines of it
READ: Final = 25  # lines at a time
NOBODY: Final = "0" * 32
"""Whose journal tells of what is no tenant's own: the root key that standard tenants share."""

_UNPROVEN: Final = frozenset(
    {"denied", "unauthenticated", "throttled", "invalid", "too-large", "unknown-tenant", "internal"}
    | {"unavailable"}
)
"""Refusals that do not show that there is such a tenant: a stranger must not fill the store."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

log = structlog.get_logger(__name__)


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for what, why, and under which request id."""

    operation: str
    caller: str
    request_id: str
    reason: str


@dataclass(slots=True)
class Draft:
    """An entry that has no number yet; `tried` is where it may have been written."""

    tenant: str
    kind: str
    body: Mapping[str, Any]
    time: str
    last: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    tried: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    sequence: int = 0
    hash: str = GENESIS
    last: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """One for all tenants of an instance, which `instance` names and `signer` signs for."""

    def __init__(
        self,
        store: JournalStore,
        *,
        instance: str,
        signer: Signer | None = None,
        every: float = EVERY,
        capacity: int = CAPACITY,
        clock: Callable[[], dt.datetime] = _utc,
    ) -> None:
        self._store = store
        self._instance = instance
        self._signer = signer
        self._every = every
        self._capacity = capacity
        self._clock = clock
        self._heads: OrderedDict[str, _Head] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._summaries: dict[str, Summary] = {}
        self._backlog: dict[str, list[Draft]] = {}
        self._size = 0
        self.lost = 0
        """Uses that were not summed up, since too many waited to be written."""

    @property
    def waiting(self) -> int:
        """How many sums and entries wait to be written."""
        return self._size + sum(map(len, self._backlog.values()))

    def draft(self, tenant: str, kind: str, body: Mapping[str, Any]) -> Draft:
        """Return an entry of now."""
        return Draft(tenant, kind, body, self._now())

    async def append(self, draft: Draft) -> int:
        """Add an entry; return its number. Raises Unavailable; the same draft may be given again."""
        lock = self._locks.setdefault(draft.tenant, asyncio.Lock())
        async with lock:
            if draft.tried is not None:
                sequence, text = draft.tried
                if await self._store.read(draft.tenant, sequence) == text:
                    draft.tried = None
                    return sequence
                draft.tried = None
            for attempt in range(TRIES):
                head = await self._follow(draft.tenant)
                sequence, text, last = self._line(draft, head)
                try:
                    await self._store.add(draft.tenant, sequence, text)
                except Conflict:
                    await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311
                    continue
                except Unavailable:
                    draft.tried = sequence, text
                    raise
                self._learn(draft.tenant, _Head(sequence, digest(text), last))
                return sequence
        raise Unavailable("journal is written by too many at once", retry_after=1.0)

    def postpone(self, draft: Draft) -> None:
        """Keep an entry that could not be added for the next time that summaries are written."""
        self._backlog.setdefault(draft.tenant, []).append(draft)

    def used(self, tenant: str, operation: str, uses: Mapping[tuple[str, str], int]) -> None:
        """Sum up the uses of a request, by KEK and outcome."""
        tenant = tenant if is_tenant(tenant) else NOBODY
        for (kek, outcome), count in uses.items():
            if outcome in _UNPROVEN and not self._knows(tenant):
                continue
            found = self._summary(tenant)
            key = (operation, kek, outcome)
            if key in found.uses or self._room(count):
                found.used(key, count, self._now())

    def called(self, tenant: str, of: str, call: str, outcome: str) -> None:
        """Sum up a call of a root, by its name, or of the key store, `store`, for a tenant."""
        tenant = tenant if is_tenant(tenant) else NOBODY
        if outcome in _UNPROVEN and not self._knows(tenant):
            return
        found = self._summary(tenant)
        key = (of, call, outcome)
        if key in found.calls or self._room(1):
            found.calls[key] += 1

    async def last_used(self, tenant: str) -> Mapping[str, int]:
        """Return when each KEK was last used, in microseconds, by what is written and what waits here.

        Other instances may have used one since they last wrote. Raises Unavailable.
        """
        found = dict((await self._follow(tenant)).last)
        for draft in self._backlog.get(tenant, ()):
            merge(found, draft.last)
        if (waiting := self._summaries.get(tenant)) is not None:
            merge(found, waiting.last)
        times = {kek: _microseconds(time) for kek, time in found.items()}
        return {kek: time for kek, time in times.items() if time is not None}

    async def page(self, tenant: str, after: int, limit: int) -> JournalPage:
        """Return up to `limit` lines after a number. Raises UnknownTenant and Unavailable."""
        head = await self._store.head(tenant)
        if not head:
            raise UnknownTenant("tenant has no key journal")
        lines: list[str] = []
        last = min(head, after + min(limit, MAX_PAGE))
        while after < last and sum(map(len, lines)) < MAX_BYTES:
            numbers = range(after + 1, min(last, after + READ) + 1)
            lines += await self._read(tenant, numbers)
            after = numbers[-1]
        return JournalPage(lines, head)

    async def _read(self, tenant: str, numbers: Sequence[int]) -> list[str]:
        lines: dict[int, str] = {}
        slots = asyncio.Semaphore(AT_ONCE)

        async def read(number: int) -> None:
            async with slots:
                lines[number] = await self._store.read(tenant, number) or REMOVED

        try:
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(read(number))
        except BaseExceptionGroup as error:
            raise error.exceptions[0] from None
        return [lines[number] for number in numbers]

    async def keep(self) -> None:
        """Write summaries every so often, for as long as it runs."""
        while True:
            # Not all instances at the same moment.
            await asyncio.sleep(self._every * random.uniform(0.9, 1.1))  # noqa: S311
            await self.flush()

    async def flush(self) -> bool:
        """Write what was summed up and what was postponed; return whether all of it is written."""
        tenants = list(dict.fromkeys([*self._backlog, *self._summaries]))
        slots, failed = asyncio.Semaphore(AT_ONCE), False

        async def write(tenant: str) -> None:
            nonlocal failed
            async with slots:
                if failed:  # it will not be better for the others
                    return
                try:
                    await self._flush(tenant)
                except KeyServiceError as error:
                    failed = True
                    log.warning("journal cannot be written; what waits is kept", reason=str(error))
                except Exception:  # whatever it is, keys are used all the same
                    failed = True
                    log.exception("journal cannot be written for a reason nobody foresaw")

        async with asyncio.TaskGroup() as group:
            for tenant in tenants:
                group.create_task(write(tenant))
        return not failed

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - bounds a flush
        """Write what waits, within some seconds; what is left is lost, and logged."""
        written = False
        try:
            async with asyncio.timeout(timeout):
                written = await self.flush()
        except TimeoutError:
            pass
        if not written:
            log.error("journal was not written before the end", tenants=len(self._summaries))

    async def _flush(self, tenant: str) -> None:
        while waiting := self._backlog.get(tenant):
            await self.append(waiting[0])
            waiting.pop(0)
            if not waiting:
                del self._backlog[tenant]
        summary = self._summaries.pop(tenant, None)
        if summary is None:
            return
        self._size -= len(summary)
        until, last = self._now(), summary.last
        for body in summary.bodies():
            self.postpone(Draft(tenant, USES, body, until, last))
        await self._flush(tenant)

    def _line(self, draft: Draft, head: _Head) -> tuple[int, str, Mapping[str, str]]:
        last = dict(head.last)
        merge(last, draft.last)
        newest = sorted(last, key=lambda kek: last[kek], reverse=True)[:MAX_LAST]
        kept = {kek: last[kek] for kek in newest}
        document = {
            "sequence": head.sequence + 1,
            "previous": head.hash,
            "tenant": draft.tenant,
            "id": draft.id,
            "instance": self._instance,
            "time": draft.time,
            "kind": draft.kind,
            "last": kept,
        }
        return head.sequence + 1, to_text({**draft.body, **document}, self._signer), kept

    async def _follow(self, tenant: str) -> _Head:
        """Return the newest entry, whoever wrote it."""
        head = self._heads.get(tenant)
        if head is None:
            head = _Head()
            if sequence := await self._store.head(tenant):
                text = await self._store.read(tenant, sequence) or ""
                head = _after(_Head(sequence - 1), text)
        while (line := await self._store.read(tenant, head.sequence + 1)) is not None:
            head = _after(head, line)
        self._learn(tenant, head)
        return head

    def _learn(self, tenant: str, head: _Head) -> None:
        self._heads[tenant] = head
        self._heads.move_to_end(tenant)
        while len(self._heads) > HEADS:
            self._heads.popitem(last=False)

    def _knows(self, tenant: str) -> bool:
        return tenant in self._summaries or bool(
            (head := self._heads.get(tenant)) and head.sequence
        )

    def _summary(self, tenant: str) -> Summary:
        found = self._summaries.get(tenant)
        if found is None:
            found = self._summaries[tenant] = Summary(self._now())
        return found

    def _room(self, count: int) -> bool:
        if self._size >= self._capacity:
            if not self.lost:
                log.error("too many uses wait to be written: new ones are not summed up")
            self.lost += count
            return False
        self._size += 1
        return True

    def _now(self) -> str:
        return self._clock().astimezone(dt.UTC).isoformat(timespec="microseconds")


def _after(head: _Head, text: str) -> _Head:
    """Return the head that a line makes; one that cannot be read is as good as any for its hash."""
    last = head.last
    try:
        last = from_text(text).last
    except ValueError:
        log.error("journal has an entry that cannot be read", sequence=head.sequence + 1)  # noqa: TRY400
    return _Head(head.sequence + 1, digest(text), last)


def _microseconds(time: str) -> int | None:
    try:
        return (dt.datetime.fromisoformat(time) - _EPOCH) // dt.timedelta(microseconds=1)
    except (ValueError, TypeError):  # of an entry that somebody forged
        return None


__all__ = ["BEGUN", "DONE", "NOBODY", "USES", "Asked", "Draft", "Journal"]
