"""A tenant's KEKs under another root, or under a newer version of theirs: the record as it would be then.

Nothing is written here, and the old root still opens what it wrapped: whoever writes the record decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from keyservice.errors import KeyServiceError, Shredded, Shredding, Suspended
from keyservice.ports import Root
from keyservice.records import (
    Custody,
    KekState,
    KekVersion,
    RootRef,
    TenantRecord,
    TenantState,
)

AT_ONCE = 8


class Rewrapping:
    """Over all roots of an instance."""

    def __init__(self, root: Root) -> None:
        self._root = root

    async def moved(self, record: TenantRecord, root: RootRef) -> TenantRecord:
        """Return the record with every KEK under that root, and the one that it left remembered."""
        left = record.left
        if record.root.custody is Custody.OWN:
            left = (*left, record.root)

        async def anew(kek: KekVersion) -> str:
            key = await self._root.unwrap(record.tenant, record.root, kek.wrapped)
            return await self._root.wrap(record.tenant, root, key)

        return await _each_kek(replace(record, root=root, left=left), anew)

    async def newest(self, record: TenantRecord) -> TenantRecord:
        """Return the record with every KEK under the newest version of its root."""
        latest = (await self._root.versions(record.tenant, record.root)).latest

        async def newest(kek: KekVersion) -> str:
            if kek.root_version == latest:
                return kek.wrapped
            return await self._root.rewrap(record.tenant, record.root, kek.wrapped)

        return await _each_kek(record, newest)


async def _each_kek(
    record: TenantRecord, work: Callable[[KekVersion], Awaitable[str]]
) -> TenantRecord:
    """Return the record with every KEK that still exists wrapped by `work`, a few at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(kek: KekVersion) -> KekVersion:
        if kek.state is KekState.DESTROYED:
            return kek
        async with slots:
            return replace(kek, wrapped=await work(kek))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(kek)) for kek in record.keks]
    except* KeyServiceError as failed:
        raise failed.exceptions[0] from None
    return replace(record, keks=tuple(task.result() for task in tasks))


def demand_active(record: TenantRecord) -> None:
    """Raise Suspended, Shredding or Shredded for a tenant whose keys may not be used."""
    if record.state is TenantState.SUSPENDED:
        raise Suspended("tenant is suspended: resume it first")
    if record.state is TenantState.SHREDDING:
        raise Shredding("tenant's keys are to be destroyed: undo the order first")
    if record.state is TenantState.SHREDDED:
        raise Shredded("tenant's keys are destroyed")


def same(one: RootRef, other: RootRef) -> bool:
    """Say whether it is the same root key, whoever supplied it."""
    return (one.custody, one.name) == (other.custody, other.name)


def oldest(record: TenantRecord) -> int:
    """Return the oldest version of the root that the record still needs."""
    return min(kek.root_version for kek in record.keks if kek.state is not KekState.DESTROYED)
