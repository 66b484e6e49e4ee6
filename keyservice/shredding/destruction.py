"""Destroys a tenant's keys for an entry of the shred ledger: as often as it takes, in one order.

Guarantees that whoever begins again, after a crash anywhere or after a key store was restored from
before, comes to the same end: the record is SHREDDED and holds no wrapped key, its older versions are
destroyed, and so is every root key of the tenant's own. The entry is in the ledger before the first of
these steps, so nothing here decides whether. A root that the tenant holds itself is its own to destroy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from keyservice.errors import Conflict, Unavailable, UnknownTenant
from keyservice.ports import KeyStore, Root
from keyservice.records import (
    Custody,
    KekState,
    KekVersion,
    RootRef,
    ShredOrder,
    TenantRecord,
    TenantState,
    Versioned,
)
from keyservice.shredding.ledger import Destruction, Entry

TRIES = 10

log = structlog.get_logger(__name__)


def now() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


class Destroyer:
    """Over the true key store. `drop` forgets what this instance has cached of a tenant."""

    def __init__(
        self,
        root: Root,
        store: KeyStore,
        drop: Callable[[str], None],
        clock: Callable[[], int] = now,
    ) -> None:
        self._root = root
        self._store = store
        self._drop = drop
        self._clock = clock

    async def finished(self, entry: Entry) -> bool:
        """Say whether the key store and the root show that nothing is left to do. Raises Unavailable."""
        tenant = entry.destruction.tenant
        try:
            record = (await self._store.read(tenant)).record
        except UnknownTenant:
            return False
        if not _is_dead(record) or record.order is None or not record.order.ended:
            return False
        return not any(
            [await self._is_there(tenant, r) for r in _own_roots(entry.destruction, record)]
        )

    async def carry_out(self, entry: Entry) -> bool:
        """Destroy what is left; return whether there was anything that still opened. Raises Unavailable."""
        tenant = entry.destruction.tenant
        self._drop(tenant)
        held, opened = await self._bury(entry)
        await self._store.forget(tenant, held.version)
        for root in _own_roots(entry.destruction, held.record):
            await self._root.destroy(tenant, root)
        await self._end(held)
        self._drop(tenant)
        if opened:
            log.warning("keys destroyed", tenant=tenant, index=entry.index, ledger=entry.ledger)
        return opened

    async def _is_there(self, tenant: str, root: RootRef) -> bool:
        try:
            await self._root.versions(tenant, root)
        except UnknownTenant:
            return False
        return True

    async def _bury(self, entry: Entry) -> tuple[Versioned, bool]:
        """Make the record SHREDDED and take the wrapped keys out of it; say whether it was not."""
        for _ in range(TRIES):
            try:
                held = await self._store.read(entry.destruction.tenant)
            except UnknownTenant:
                # A key store from before the tenant was made, or without it: other instances learn.
                record, version = tombstone(entry), 0
            else:
                if _is_dead(held.record):
                    return held, False
                record, version = _buried(held, entry), held.version
            try:
                written = await self._store.write(record, version)
            except Conflict:
                continue
            return Versioned(record, written), True
        raise Unavailable("tenant record changes all the time: try again")

    async def _end(self, held: Versioned) -> None:
        """Put down that nothing is left; whoever did so meanwhile saw the same."""
        order = held.record.order
        if order is None or order.ended:
            return
        ended = replace(order, ended=self._clock())
        record = replace(held.record, order=ended, revision=held.version + 1)
        try:
            await self._store.write(record, held.version)
        except Conflict:
            log.info("another instance ended the destruction", tenant=record.tenant)


def tombstone(entry: Entry) -> TenantRecord:
    """Return the record of a dead tenant, as far as the ledger tells."""
    told = entry.destruction
    return TenantRecord(
        tenant=told.tenant,
        tier=told.tier,
        state=TenantState.SHREDDED,
        cache_ttl=0.0,
        keks=tuple(KekVersion(kek, "", 0, KekState.DESTROYED) for kek in told.keks),
        root=told.root,
        order=_order(told),
    )


def _order(told: Destruction) -> ShredOrder:
    return ShredOrder(
        told.ordered, told.due, told.by, told.reason, approved=told.approved, began=told.at
    )


def _buried(held: Versioned, entry: Entry) -> TenantRecord:
    record = held.record
    order = record.order if record.order is not None and record.order.began else None
    return replace(
        record,
        state=TenantState.SHREDDED,
        keks=tuple(replace(kek, wrapped="", state=KekState.DESTROYED) for kek in record.keks),
        order=replace(order or _order(entry.destruction), ended=0),
        revision=held.version + 1,
        sealed=0,
        seal="",
    )


def _is_dead(record: TenantRecord) -> bool:
    return record.state is TenantState.SHREDDED and not any(
        kek.wrapped or kek.state is not KekState.DESTROYED for kek in record.keks
    )


def _own_roots(told: Destruction, record: TenantRecord) -> list[RootRef]:
    """Return the roots that are the tenant's alone in our keeping, also those it was moved from."""
    roots = (told.root, record.root, *record.left)
    return list(
        {(root.custody, root.name): root for root in roots if root.custody is Custody.OWN}.values()
    )
