"""Envelopes by their KEK over a SQL database; what is done about copies is in `stale` and `leftovers`."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, null, select, update

from gateway.catalog import contents, keks, leftovers, retiring, stale, tables
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.prepared import Prepared, any_of
from gateway.catalog.references import beyond
from gateway.errors import NotFound
from gateway.model import ReplicaState, Version
from gateway.ports import Backlog, KekUse, Leftover, Rewrapped, Rotation, Stale, Wrapped

_ATTACHMENTS = tables.attachments
_LEFTOVERS = tables.leftovers
_REPLICAS = tables.replicas
_STALE = tables.stale
_TENANTS = tables.tenants
_VERSIONS = tables.versions
_REWRAP = Prepared(
    update(_VERSIONS)
    .where(_VERSIONS.c.id == bindparam("of"))
    .values(envelope=bindparam("new_envelope"), kek=bindparam("new_kek"))
)


def _locked(*, on_sqlite: bool) -> Select[*tuple[Any, ...]]:
    """Select versions as they are from here on: what somebody else rewraps is seen after that."""
    these = any_of(_VERSIONS.c.id, "ids", on_sqlite=on_sqlite)
    locked = select(_VERSIONS.c.id, _VERSIONS.c.blob, _VERSIONS.c.kek).where(
        these, _VERSIONS.c.purging.is_(None)
    )
    return locked.order_by(_VERSIONS.c.id).with_for_update(key_share=True)


_LOCKED = Prepared(_locked(on_sqlite=False), on_sqlite=_locked(on_sqlite=True))


class SqlWraps:
    """Implements `gateway.ports.Wraps`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def on_kek(
        self,
        kek: str,
        *,
        after: str | None = None,
        limit: int = 500,
        created_before: datetime | None = None,
        attachment: str | None = None,
    ) -> Sequence[Wrapped]:
        """Implement `Wraps.on_kek`."""
        await self._fill()
        columns = [each for each in contents.COLUMNS if each is not _VERSIONS.c.inline]
        query = (
            select(*columns, null().label("inline"))
            .join_from(_VERSIONS, _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment)
            .where(_VERSIONS.c.kek == kek, _VERSIONS.c.purging.is_(None))
        )
        if after is not None:
            query = query.where(_VERSIONS.c.id > after)
        if created_before is not None:
            query = query.where(_VERSIONS.c.created < created_before)
        if attachment is not None:
            query = query.where(_VERSIONS.c.attachment == attachment)
        query = query.order_by(_VERSIONS.c.id).limit(limit)
        return await self._database.read(bound(_wrapped, query))

    async def rewrap(self, changes: Sequence[Rewrapped]) -> frozenset[str]:
        """Implement `Wraps.rewrap`."""
        return await self._database.write(bound(_rewrap, changes, self._clock))

    async def claim_stale(
        self, *, tenant: str | None, targets: Sequence[str], lease: timedelta, limit: int
    ) -> Sequence[Stale]:
        """Implement `Wraps.claim_stale`."""
        claim = bound(
            stale.claim, targets, tenant=tenant, lease=lease, limit=limit, clock=self._clock
        )
        return await self._database.write(claim)

    async def pushed(self, stale_: Stale, kek: str) -> bool:
        """Implement `Wraps.pushed`."""
        return await self._database.write(bound(stale.pushed, stale_, kek, self._clock))

    async def failed_push(self, stale_: Stale, retry: timedelta) -> None:
        """Implement `Wraps.failed_push`."""
        await self._database.write(bound(stale.failed, stale_, retry, self._clock))

    async def release_stale(self, stale_: Sequence[Stale]) -> None:
        """Implement `Wraps.release_stale`."""
        await self._database.write(bound(stale.release, stale_))

    async def backlog(self, target: str) -> Backlog:
        """Implement `Wraps.backlog`."""
        return await self._database.read(bound(stale.backlog, target))

    async def mark_stale(self, version: str, target: str, kek: str) -> bool:
        """Implement `Wraps.mark_stale`."""
        return await self._database.write(bound(stale.mark, version, target, kek, self._clock))

    async def uses(self, tenant: str) -> Sequence[KekUse]:
        """Implement `Wraps.uses`."""
        await self._fill()
        found = await self._database.read(bound(_uses, tenant))
        await self._database.settle()  # keys are destroyed where there is no use
        return found

    async def retiring(self, tenant: str, kek: str) -> None:
        """Implement `Wraps.retiring`."""
        await self._database.write(bound(retiring.begin, tenant, kek, self._clock))

    async def begun(self, tenant: str, before: datetime) -> int:
        """Implement `Wraps.begun`."""
        return await self._database.read(bound(retiring.begun, tenant, before))

    async def schedule(self, tenant: str) -> Rotation:
        """Implement `Wraps.schedule`."""
        return await self._database.read(bound(_schedule, tenant))

    async def set_schedule(self, tenant: str, rotation: Rotation) -> None:
        """Implement `Wraps.set_schedule`."""
        await self._database.write(bound(_set_schedule, tenant, rotation))

    async def intend(self, version: Version, blob: str, kek: str) -> bool:
        """Implement `Wraps.intend`."""
        return await self._database.write(bound(leftovers.intend, version, blob, kek, self._clock))

    async def switch(
        self, version: Version, old: str, replicas: Mapping[str, ReplicaState]
    ) -> bool:
        """Implement `Wraps.switch`."""
        switch = bound(leftovers.switch, version, old, replicas, self._clock)
        return await self._database.write(switch)

    async def abandon(self, blob: str) -> bool:
        """Implement `Wraps.abandon`."""
        return await self._database.write(bound(leftovers.abandon, blob, self._clock))

    async def doom_leftovers(self, limit: int) -> int:
        """Implement `Wraps.doom_leftovers`."""
        return await self._database.write(bound(leftovers.doom, limit, self._clock))

    async def leftovers(self, limit: int, after: str | None = None) -> Sequence[Leftover]:
        """Implement `Wraps.leftovers`."""
        return await self._database.read(bound(leftovers.doomed, limit, after, self._clock))

    async def leftover_gone(self, blob: str) -> None:
        """Implement `Wraps.leftover_gone`."""
        await self._database.write(bound(leftovers.gone, blob))

    async def _fill(self) -> None:
        """Read the KEKs of what a gateway of the version before wrote."""
        after: str | None = ""
        if await self._database.read(keks.lacking):
            while after is not None:
                after = await self._database.write(bound(keks.fill, after))


def _wrapped(connection: Connection, query: Select[*tuple[Any, ...]]) -> Sequence[Wrapped]:
    versions = [contents.version(row) for row in connection.execute(query)]
    targets: dict[str, set[str]] = {version.id: set() for version in versions}
    for page in contents.slices(targets):
        there = select(_REPLICAS.c.version, _REPLICAS.c.target).where(
            _REPLICAS.c.version.in_(page), _REPLICAS.c.state != ReplicaState.DELETING.value
        )
        for row in connection.execute(there):
            targets[row.version].add(row.target)
    return [Wrapped(version, frozenset(targets[version.id])) for version in versions]


def _rewrap(connection: Connection, changes: Sequence[Rewrapped], clock: Clock) -> frozenset[str]:
    retiring.share(connection)
    closed = retiring.among(connection, frozenset(each.new for each in changes))
    by_version = {each.version: each for each in reversed(changes) if each.new not in closed}
    changed: list[Rewrapped] = []
    for page in contents.slices(sorted(by_version)):
        for row in _LOCKED.all(connection, ids=page):
            change = by_version[row.id]
            if row.blob == change.blob and row.kek == change.old != change.new:
                changed.append(change)
    if not changed:
        return frozenset()
    _REWRAP.each(
        connection,
        [
            {"of": each.version, "new_envelope": each.envelope, "new_kek": each.new}
            for each in changed
        ],
    )
    at = clock(connection)
    for old in sorted({each.old for each in changed}):
        stale.add_all(connection, [each.version for each in changed if each.old == old], old, at)
    return frozenset(each.version for each in changed)


def _uses(connection: Connection, tenant: str) -> Sequence[KekUse]:
    versions = {row.kek: row.versions for row in connection.execute(_per_kek(tenant))}
    trashed = Counter(kek for query in _going(tenant) for kek in connection.scalars(query))
    copies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    known = select(_STALE.c.keks, _STALE.c.target, func.count().label("copies"))
    known = known.where(_STALE.c.tenant == tenant).group_by(_STALE.c.keks, _STALE.c.target)
    for row in connection.execute(known):
        for kek in stale.names(row.keks):
            copies[kek][row.target] += row.copies
    left: Counter[str] = Counter()
    blobs = select(_LEFTOVERS.c.keks, func.count().label("blobs"))
    blobs = blobs.where(_LEFTOVERS.c.tenant == tenant).group_by(_LEFTOVERS.c.keks)
    for row in connection.execute(blobs):
        for kek in stale.names(row.keks):
            left[kek] += row.blobs
    every = sorted({*versions, *copies, *left})
    return [
        KekUse(kek, versions.get(kek, 0), trashed[kek], copies[kek], left[kek]) for kek in every
    ]


def _per_kek(tenant: str) -> Select[*tuple[Any, ...]]:
    """Select the KEKs of a tenant's versions, and how many there are of each."""
    of_tenant = [_VERSIONS.c.kek >= tenant]
    if (end := beyond(tenant)) is not None:
        of_tenant.append(_VERSIONS.c.kek < end)
    return (
        select(_VERSIONS.c.kek, func.count().label("versions"))
        .where(*of_tenant)
        .group_by(_VERSIONS.c.kek)
    )


def _going(tenant: str) -> Iterable[Select[*tuple[str]]]:
    """Select the KEKs of what is in the trash, and of what is being purged: each by its own index.

    They are counted by whoever asks. To have it done here would let SQLite go through all versions, in
    order of their KEKs.
    """
    for where in (tables.IN_TRASH, tables.DOOMING):
        trashed = select(_ATTACHMENTS.c.id).where(_ATTACHMENTS.c.tenant == tenant, where)
        yield select(_VERSIONS.c.kek).where(
            _VERSIONS.c.attachment.in_(trashed), _VERSIONS.c.purging.is_(None)
        )
    of_tenant = func.substr(_VERSIONS.c.kek, 1, len(tenant)) == tenant
    yield select(_VERSIONS.c.kek).where(_VERSIONS.c.purging.is_not(None), of_tenant)


def _schedule(connection: Connection, tenant: str) -> Rotation:
    columns = (_TENANTS.c.kek_every, _TENANTS.c.root_every)
    row = connection.execute(select(*columns).where(_TENANTS.c.id == tenant)).first()
    if row is None:
        raise NotFound("no such tenant")
    return Rotation(row.kek_every, row.root_every)


def _set_schedule(connection: Connection, tenant: str, rotation: Rotation) -> None:
    values = {"kek_every": rotation.kek, "root_every": rotation.root}
    change = update(_TENANTS).where(_TENANTS.c.id == tenant).values(**values)
    if connection.execute(change).rowcount == 0:
        raise NotFound("no such tenant")
