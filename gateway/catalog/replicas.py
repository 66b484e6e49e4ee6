"""The states of replicas over a SQL database; what is done about the bad ones is in `gaps`."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    select,
    update,
)

from gateway.catalog import contents, gaps, stale, stock, tables, unknown
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.prepared import Prepared
from gateway.model import ReplicaState, Version
from gateway.ports import Finding, Gap, Held, Holding, Kept, Lag

_REPLICAS = tables.replicas
_VERSIONS = tables.versions
_ATTACHMENTS = tables.attachments
_ROW = (_REPLICAS.c.version, _REPLICAS.c.target)
COMPLETE = 600.0  # seconds; only a gateway with other settings could commit without a row

_KNOWN = ("stored", "missing", "damaged")
_WHOLE = Prepared(
    update(_REPLICAS)
    .where(_REPLICAS.c.version == bindparam("of"), _REPLICAS.c.target == bindparam("there"))
    .values(**gaps.stored(bindparam("at", type_=tables.Moment)))
)


class SqlReplicas:
    """Implements `gateway.ports.Replicas`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._complete: dict[
            str, float
        ] = {}  # by target: until when it is taken to have all its rows
        self._walks: dict[str, str] = {}  # by target: how far the adopting of its versions got

    async def report(self, findings: Sequence[Finding]) -> int:
        """Implement `Replicas.report`."""
        return await self._database.write(bound(_report, findings, self._clock))

    async def adopt(self, target: str, limit: int) -> int:
        """Implement `Replicas.adopt`."""
        while True:
            cursor = self._walks.pop(target, None)
            step = await self._database.read(bound(unknown.step, target, cursor, limit))
            if step.cursor is not None:
                self._walks[target] = step.cursor
            adopted = 0
            if step.found:
                adopt = bound(unknown.adopt, target, step.found, self._clock)
                adopted = await self._database.write(adopt)
            if adopted or step.cursor is None:
                return adopted

    async def claim(
        self,
        targets: Collection[str],
        *,
        lease: timedelta,
        limit: int,
        newest: bool,
        tenant: str | None = None,
    ) -> Sequence[Gap]:
        """Implement `Replicas.claim`."""
        return await self._database.write(
            bound(
                gaps.claim,
                targets,
                lease=lease,
                limit=limit,
                newest=newest,
                tenant=tenant,
                clock=self._clock,
            )
        )

    async def extend(self, gaps_: Sequence[Gap], lease: timedelta) -> Sequence[Gap]:
        """Implement `Replicas.extend`."""
        kept = await self._database.write(bound(gaps.extend, gaps_, lease, self._clock))
        renewed = ((gap, kept.get((gap.version.id, gap.target))) for gap in gaps_)
        return [replace(gap, until=until) for gap, until in renewed if until is not None]

    async def filled(self, gap: Gap, kek: str) -> bool:
        """Implement `Replicas.filled`."""
        return await self._database.write(bound(gaps.filled, gap, kek, self._clock))

    async def failed(self, gap: Gap, retry: timedelta) -> bool:
        """Implement `Replicas.failed`."""
        return await self._database.write(bound(gaps.failed, gap, retry, self._clock))

    async def release(self, gaps_: Sequence[Gap]) -> None:
        """Implement `Replicas.release`."""
        await self._database.write(bound(gaps.release, gaps_))

    async def lag(self, targets: Collection[str], *, tenant: str | None = None) -> Sequence[Lag]:
        """Implement `Replicas.lag`."""
        if tenant is not None:
            reads = [bound(_lag_of, each, counted=True, tenant=tenant) for each in targets]
            return [(await self._database.read(read)).all for read in reads]
        return [await self._lag(target) for target in targets]

    async def _lag(self, target: str) -> Lag:
        """Ask for one. A target that was found to have all its rows is not counted anew for a while."""
        counted = time.monotonic() < self._complete.get(target, 0.0)
        lag = await self._database.read(bound(_lag_of, target, counted=counted))
        if not counted and not lag.unknown:
            self._complete[target] = time.monotonic() + COMPLETE
        return lag.all

    async def held(
        self,
        target: str,
        *,
        after: str | None = None,
        limit: int = 500,
        tenant: str | None = None,
        attachment: str | None = None,
    ) -> Sequence[Held]:
        """Implement `Replicas.held`."""
        where: list[ColumnElement[bool]] = [_VERSIONS.c.purging.is_(None)]
        if after is not None:
            where.append(_VERSIONS.c.id > after)
        if tenant is not None:
            where.append(_ATTACHMENTS.c.tenant == tenant)
        if attachment is not None:
            where.append(_VERSIONS.c.attachment == attachment)
        query = _on(target, outer=True).where(*where).order_by(_VERSIONS.c.id).limit(limit)
        return await self._database.read(bound(_held, query))

    async def stranded(
        self, targets: Collection[str], *, after: str | None = None, limit: int = 500
    ) -> Sequence[Version]:
        """Implement `Replicas.stranded`."""
        held = exists().where(
            _REPLICAS.c.version == _VERSIONS.c.id,
            _REPLICAS.c.target.in_(tuple(targets)),
            _REPLICAS.c.state == ReplicaState.STORED.value,
        )
        where = [_VERSIONS.c.purging.is_(None), _VERSIONS.c.body_size > 0, ~held]
        if after is not None:
            where.append(_VERSIONS.c.id > after)
        query = contents.BARE.where(*where).order_by(_VERSIONS.c.id).limit(limit)
        return await self._database.read(bound(_versions, query))

    async def unchecked(self, target: str, limit: int, *, again: bool = False) -> Sequence[Held]:
        """Implement `Replicas.unchecked`."""
        oldest = select(_REPLICAS.c.version, _REPLICAS.c.checked).where(
            _REPLICAS.c.target == target, _REPLICAS.c.state == ReplicaState.STORED.value
        )
        if again:
            oldest = oldest.where(_REPLICAS.c.checked > tables.EPOCH)
        chosen = oldest.order_by(_REPLICAS.c.checked).limit(limit).subquery()
        query = _on(target, outer=False).join(chosen, chosen.c.version == _VERSIONS.c.id)
        return await self._database.read(bound(_held, query.order_by(chosen.c.checked)))

    async def kept(
        self, target: str, *, after: str | None = None, limit: int = 1000
    ) -> Sequence[Kept]:
        """Implement `Replicas.kept`."""
        return await self._database.read(bound(stock.kept, target, after, limit))

    async def holding(self, target: str, *, tenant: str | None = None) -> Holding:
        """Implement `Replicas.holding`."""
        return await self._database.read(bound(stock.holding, target, tenant))

    async def version(self, version: str) -> Version | None:
        """Implement `Replicas.version`."""
        found = await self._database.read(bound(contents.versions, [version]))
        return found.get(version)

    async def owners(self, blobs: Sequence[str]) -> dict[str, str]:
        """Implement `Replicas.owners`."""
        return await self._database.read(bound(_owners, blobs))


def _versions(connection: Connection, query: Select[*tuple[Any, ...]]) -> Sequence[Version]:
    return [contents.version(row) for row in connection.execute(query)]


def _report(connection: Connection, findings: Sequence[Finding], clock: Clock) -> int:
    last = {(each.version, each.target): each for each in findings}
    if not last:
        return 0
    at, changed = clock(connection), 0
    before: dict[tuple[str, str], str] = {}
    for page in _pages(sorted(last)):
        # Not by pairs, for which SQLite has no use of an index, and not by the targets' own index, along
        # which it would go through all that they have.
        versions, targets = (set(each) for each in zip(*page, strict=True))
        known = select(_REPLICAS).where(
            _REPLICAS.c.version.in_(versions),
            _REPLICAS.c.target.concat("").in_(targets),
            _REPLICAS.c.state.concat("").in_(_KNOWN),
        )
        rows = connection.execute(known.order_by(*_ROW).with_for_update())
        found = {(row.version, row.target): row.state for row in rows}
        before |= {key: state for key, state in found.items() if key in last}
    blobs = _blobs(connection, {each.version for each in last.values() if each.blob})
    whole: list[dict[str, Any]] = []
    told: list[tuple[str, str, str]] = []
    for key, state in before.items():
        seen = last[key]
        if seen.state not in _KNOWN or (seen.blob and seen.blob != blobs.get(seen.version)):
            continue
        changed += seen.state != state
        if seen.state is ReplicaState.STORED:
            whole.append({"of": key[0], "there": key[1], "at": at})
            if seen.kek or seen.state != state:
                told.append((*key, seen.kek))
        elif seen.state != state:
            values: dict[str, Any] = {"state": seen.state.value, "reason": seen.reason}
            if state == ReplicaState.STORED:
                values |= _new_gap(at)
            of = and_(_REPLICAS.c.version == key[0], _REPLICAS.c.target == key[1])
            connection.execute(update(_REPLICAS).where(of).values(**values))
    # Those of a scrub are many, and uploads wait meanwhile.
    _WHOLE.each(connection, whole)
    stale.seen(connection, told, clock)
    return changed


def _blobs(connection: Connection, versions: Iterable[str]) -> dict[str, str]:
    """Read which blob each version has now."""
    found: dict[str, str] = {}
    for page in contents.slices(versions):
        rows = select(_VERSIONS.c.id, _VERSIONS.c.blob).where(_VERSIONS.c.id.in_(page))
        found |= {row.id: row.blob for row in connection.execute(rows)}
    return found


def _new_gap(at: datetime) -> dict[str, Any]:
    of_version = _VERSIONS.c.id == _REPLICAS.c.version
    return {
        "since": at,
        "tries": 0,
        "due": tables.EPOCH,
        "leased": tables.EPOCH,
        "leased_until": tables.EPOCH,
        "born": select(_VERSIONS.c.created).where(of_version).scalar_subquery(),
        "size": select(_VERSIONS.c.body_size).where(of_version).scalar_subquery(),
    }


@dataclass(frozen=True, slots=True)
class _Lag:
    """What one target lacks, and how much of that has no row there."""

    all: Lag
    unknown: int


def _lag_of(
    connection: Connection, target: str, *, counted: bool, tenant: str | None = None
) -> _Lag:
    since = func.coalesce(_REPLICAS.c.since, _REPLICAS.c.born, type_=tables.Moment)
    query = select(
        func.count().label("objects"),
        func.coalesce(func.sum(_REPLICAS.c.size), 0).label("bytes"),
        func.min(since, type_=tables.Moment).label("oldest"),
        func.count().filter(_REPLICAS.c.tries > 0).label("failing"),
    ).where(_REPLICAS.c.target == target, tables.GAP)
    if tenant is not None:
        query = query.where(gaps.of_tenant(tenant))
    row = connection.execute(query).one()
    more = unknown.Sum() if counted else unknown.sum_of(connection, target)
    since_when = [each for each in (row.oldest, more.oldest) if each is not None]
    lag = Lag(
        target,
        row.objects + more.objects,
        int(row.bytes) + more.bytes,
        min(since_when, default=None),
        row.failing,
    )
    return _Lag(lag, more.objects)


def _on(target: str, *, outer: bool) -> Select[*tuple[Any, ...]]:
    there = and_(_REPLICAS.c.version == _VERSIONS.c.id, _REPLICAS.c.target == target)
    columns = (_REPLICAS.c.state.label("replica_state"), _REPLICAS.c.checked.label("verified"))
    return contents.WHOLE.add_columns(*columns).join(_REPLICAS, there, isouter=outer)


def _held(connection: Connection, query: Select[*tuple[Any, ...]]) -> Sequence[Held]:
    return [
        Held(
            version=contents.version(row),
            state=None if row.replica_state is None else contents.state(row.replica_state),
            checked=row.verified if row.verified and row.verified > tables.EPOCH else None,
        )
        for row in connection.execute(query)
    ]


def _owners(connection: Connection, blobs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for page in contents.slices(blobs):
        rows = select(_VERSIONS.c.blob, _VERSIONS.c.id).where(_VERSIONS.c.blob.in_(page))
        found |= {row.blob: row.id for row in connection.execute(rows)}
    return found


def _pages(keys: Sequence[tuple[str, str]]) -> Iterable[Sequence[tuple[str, str]]]:
    half = contents.AT_ONCE // 2
    return (keys[start : start + half] for start in range(0, len(keys), half))
