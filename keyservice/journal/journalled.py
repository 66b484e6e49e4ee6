"""Puts on the journal what a request changes: a root and a key store that tell of every change first.

Guarantees that no record is written, and no root key made, rotated, retired or destroyed, before the
journal says that it is about to be; and that what came of it is on the journal before the request is
answered. What a change was is read off the records before and after it, so no use case can forget to tell.
Every call of the root and of the key store is summed up for its tenant. A request that changes nothing
leaves no entry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from typing import TypeVar

from keyservice.errors import Conflict, KeyServiceError, Unavailable, UnknownTenant
from keyservice.journal.differences import Facts, changes, root_text
from keyservice.journal.journal import BEGUN, DONE, NOBODY, Asked, Draft, Journal
from keyservice.ports import KeyStore, Root, RootKind, RootStatus, RootVersions
from keyservice.records import (
    Custody,
    RootRef,
    TenantRecord,
    Versioned,
    is_tenant,
)

T = TypeVar("T")

OURSELVES = Asked("", "", "", "the key service itself")


class _Change:
    """What one request changes, tenant by tenant."""

    def __init__(self, journal: Journal, asked: Asked) -> None:
        self._journal = journal
        self._asked = asked
        self._lock = asyncio.Lock()
        self._begun: dict[str, int] = {}
        self._facts: dict[str, Facts] = {}
        self._revisions: dict[str, int] = {}
        self.seen: dict[str, Versioned] = {}

    async def begin(self, tenant: str) -> None:
        """Say that something is about to change. Raises Unavailable: then nothing may."""
        async with self._lock:
            if tenant not in self._begun:
                draft = self._journal.draft(tenant, BEGUN, asdict(self._asked))
                self._begun[tenant] = await self._journal.append(draft)

    def note(self, tenant: str, facts: Facts, *, sure: bool = True) -> None:
        """Keep what was changed, for the entry that says how it ended."""
        found = self._facts.setdefault(tenant, [])
        found += facts if sure else [fact | {"uncertain": True} for fact in facts]

    def wrote(self, record: TenantRecord, version: int) -> None:
        """Keep what was written, and as which revision: the entry that has the newest is the newest."""
        self._revisions[record.tenant] = version
        self.seen[record.tenant] = Versioned(record, version)

    async def end(self, outcome: str) -> None:
        """Say what came of it. Raises Unavailable where that has to be said later."""
        failure: KeyServiceError | None = None
        for draft in self._endings(outcome):
            try:
                await self._journal.append(draft)
            except KeyServiceError as error:
                self._journal.postpone(draft)
                failure = error
        if failure is not None:
            raise Unavailable(
                "the change was made, but the journal cannot be written: ask again",
                retry_after=failure.retry_after,
            )

    def abandon(self) -> None:
        """Say later that nobody waited for the end."""
        for draft in self._endings("abandoned"):
            self._journal.postpone(draft)

    def _endings(self, outcome: str) -> list[Draft]:
        endings = []
        for tenant, number in self._begun.items():
            body = asdict(self._asked) | {"of": number, "outcome": outcome}
            body["changes"] = self._facts.get(tenant, [])
            if tenant in self._revisions:
                body["revision"] = self._revisions[tenant]
            endings.append(self._journal.draft(tenant, DONE, body))
        self._begun.clear()
        return endings


_CURRENT: ContextVar[_Change | None] = ContextVar("keyservice_change", default=None)


async def observed(
    journal: Journal,
    asked: Asked,
    work: Callable[[], Awaitable[T]],
    verdict: Callable[[T], str] = lambda _: "ok",
) -> T:
    """Do the work of a request, and put on the journal what it changes.

    Raises Unavailable where the journal cannot be written: before a change nothing was done, after one
    it is done and the journal will say so later.
    """
    change = _Change(journal, asked)
    token = _CURRENT.set(change)
    try:
        found = await work()
    except KeyServiceError as error:
        with contextlib.suppress(KeyServiceError):
            await change.end(error.code)
        raise
    except BaseException:
        change.abandon()
        raise
    finally:
        _CURRENT.reset(token)
    await change.end(verdict(found))
    return found


class JournalledRoot:
    """A root that tells the journal; otherwise the root it wraps."""

    def __init__(self, root: Root, journal: Journal) -> None:
        self._root = root
        self._journal = journal

    @property
    def kind(self) -> RootKind:
        """See `Root.kind`."""
        return self._root.kind

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`."""
        await change_of_root(
            self._journal,
            "create",
            (tenant, root),
            lambda: self._root.create(tenant, root),
            lambda _: [],
        )

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        with self._counted(tenant, root, "wrap"):
            return await self._root.wrap(tenant, root, plaintext)

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        with self._counted(tenant, root, "unwrap"):
            return await self._root.unwrap(tenant, root, wrapped)

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        with self._counted(tenant, root, "rewrap"):
            return await self._root.rewrap(tenant, root, wrapped)

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """See `Root.rotate`."""
        return await change_of_root(
            self._journal,
            "rotate",
            (_owner(tenant, root), root),
            lambda: self._root.rotate(tenant, root),
            lambda version: [{"what": "root-rotated", "root": root_text(root), "version": version}],
        )

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """See `Root.versions`."""
        with self._counted(_owner(tenant, root), root, "versions"):
            return await self._root.versions(tenant, root)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """See `Root.retire`."""
        await change_of_root(
            self._journal,
            "retire",
            (_owner(tenant, root), root),
            lambda: self._root.retire(tenant, root, minimum),
            lambda _: [{"what": "root-retired", "root": root_text(root), "minimum": minimum}],
        )

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """See `Root.destroy`."""
        await change_of_root(
            self._journal,
            "destroy",
            (_owner(tenant, root), root),
            lambda: self._root.destroy(tenant, root),
            lambda _: [{"what": "root-destroyed", "root": root_text(root)}],
        )

    async def status(self) -> RootStatus:
        """See `Root.status`."""
        return await self._root.status()

    async def close(self) -> None:
        """See `Root.close`."""
        await self._root.close()

    @contextlib.contextmanager
    def _counted(self, tenant: str, root: RootRef, call: str) -> Iterator[None]:
        with _counted(self._journal, tenant, root_text(root), call):
            yield


async def change_of_root(
    journal: Journal,
    call: str,
    subject: tuple[str, RootRef],
    work: Callable[[], Awaitable[T]],
    facts: Callable[[T], Facts],
) -> T:
    """Do what changes a tenant's root, and tell: that it begins, what came of it, that it was called."""
    tenant, root = subject
    async with _change(journal) as change:
        await change.begin(tenant)
        try:
            with _counted(journal, tenant, root_text(root), call):
                found = await work()
        except Unavailable:
            change.note(tenant, [{"what": f"root-{call}", "root": root_text(root)}], sure=False)
            raise
        change.note(tenant, facts(found))
        return found


class JournalledStore:
    """A key store that tells the journal; otherwise the store it wraps."""

    def __init__(self, store: KeyStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def read(self, tenant: str) -> Versioned:
        """See `KeyStore.read`."""
        with self._counted(tenant, "read"):
            found = await self._store.read(tenant)
        if (change := _CURRENT.get()) is not None:
            change.seen[tenant] = found
        return found

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """See `KeyStore.write`."""
        tenant = record.tenant
        async with _change(self._journal) as change:
            before = await self._before(tenant, expected_version, change)
            facts = changes(before, record)
            await change.begin(tenant)
            try:
                with self._counted(tenant, "write"):
                    version = await self._store.write(record, expected_version)
            except Unavailable:
                change.note(tenant, facts, sure=False)
                raise
            change.note(tenant, facts)
            change.wrote(record, version)
            return version

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        """See `KeyStore.past`."""
        with self._counted(tenant, "read"):
            return await self._store.past(tenant, version)

    async def forget(self, tenant: str, before: int) -> None:
        """See `KeyStore.forget`."""
        async with _change(self._journal) as change:
            await change.begin(tenant)
            with self._counted(tenant, "forget"):
                await self._store.forget(tenant, before)
            change.note(tenant, [{"what": "older-records-destroyed", "before": before}])

    async def tenants(self) -> Sequence[str]:
        """See `KeyStore.tenants`."""
        return await self._store.tenants()

    async def status(self) -> RootStatus:
        """See `KeyStore.status`."""
        return await self._store.status()

    async def close(self) -> None:
        """See `KeyStore.close`."""
        await self._store.close()

    async def _before(self, tenant: str, version: int, change: _Change) -> TenantRecord | None:
        """Return the record that is about to be replaced. Raises Conflict when that is another one."""
        if version == 0:
            return None
        held = change.seen.get(tenant)
        if held is None or held.version != version:
            try:
                held = await self.read(tenant)
            except UnknownTenant:
                held = None
            if held is None or held.version != version:
                raise Conflict("tenant record is at another version")
        return held.record

    @contextlib.contextmanager
    def _counted(self, tenant: str, call: str) -> Iterator[None]:
        with _counted(self._journal, tenant, "store", call):
            yield


def _owner(tenant: str, root: RootRef) -> str:
    """Return whose journal tells of a root key as a whole."""
    return NOBODY if root.custody is Custody.SHARED or not is_tenant(tenant) else tenant


@contextlib.asynccontextmanager
async def _change(journal: Journal) -> AsyncIterator[_Change]:
    """Give the change of the request that is under way, or one of our own."""
    current = _CURRENT.get()
    if current is not None:
        yield current
        return
    change = _Change(journal, OURSELVES)
    try:
        yield change
    except KeyServiceError as error:
        with contextlib.suppress(KeyServiceError):
            await change.end(error.code)
        raise
    except BaseException:
        change.abandon()
        raise
    await change.end("ok")


@contextlib.contextmanager
def _counted(journal: Journal, tenant: str, of: str, call: str) -> Iterator[None]:
    try:
        yield
    except KeyServiceError as error:
        journal.called(tenant, of, call, error.code)
        raise
    journal.called(tenant, of, call, "ok")
