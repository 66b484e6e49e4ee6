"""Versions that a store still holds, brought back into the catalog in bulk.

What is added is out of sight until it is settled: its attachment is `UNSETTLED` in the trash, out of
the reach of every purge, has no current version, and its versions have negative numbers.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union,
    update,
)

from gateway.catalog import newest, stale, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.references import storable
from gateway.catalog.upsert import insert_new
from gateway.model import ReplicaState, Tenant, Version
from gateway.ports import Recovered, Settled

UNSETTLED = datetime(5000, 1, 1, tzinfo=UTC)
_APART = 1_000_000_000  # more versions than an attachment has: keeps two numberings from meeting
_ATTACHMENTS = tables.attachments
_VERSIONS = tables.versions
_OPERATIONS = tables.operations
_READABLE = and_(_VERSIONS.c.attachment == _ATTACHMENTS.c.id, _VERSIONS.c.purging.is_(None))
_IS_UNSETTLED = _ATTACHMENTS.c.deleted == UNSETTLED

_NEW_TENANT = insert_new(tables.tenants, ["id"])
_NEW_ATTACHMENT = insert_new(_ATTACHMENTS, ["id"])
_NEW_VERSION = insert_new(_VERSIONS, ["id"])
_NEW_REPLICA = insert_new(tables.replicas, ["version", "target"])


class SqlRecovery:
    """Implements `gateway.ports.Recovery`; `SqlCatalog.recovery` is one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def empty(self) -> bool:
        """Implement `Recovery.empty`."""
        return await self._database.read(_empty)

    async def missing(self, blobs: Sequence[str]) -> frozenset[str]:
        """Implement `Recovery.missing`."""
        old = tables.leftovers.c.blob
        owned = union(
            select(_VERSIONS.c.blob).where(_VERSIONS.c.blob.in_(list(blobs))),
            select(old).where(old.in_(list(blobs)), newest.OVER),
        )
        found = await self._database.read(lambda c: frozenset(c.scalars(owned)))
        return frozenset(blobs) - found

    async def add(
        self,
        tenants: Sequence[Tenant],
        found: Sequence[Recovered],
        target: str,
        begun: frozenset[str] = frozenset(),
    ) -> Mapping[str, str]:
        """Implement `Recovery.add`."""
        return await self._database.write(
            bound(_add, tenants, found, target, begun=begun, clock=self._clock)
        )

    async def settle(self) -> Settled:
        """Implement `Recovery.settle`."""
        return await self._database.write(lambda c: _settle(c, self._clock(c)))


def _empty(connection: Connection) -> bool:
    of_anybody = select(_ATTACHMENTS.c.id).where(
        or_(_ATTACHMENTS.c.deleted.is_(None), _ATTACHMENTS.c.deleted != UNSETTLED)
    )
    return not any(
        connection.execute(query.limit(1)).first()
        for query in (of_anybody, select(tables.tokens.c.id))
    )


def _add(
    connection: Connection,
    tenants: Sequence[Tenant],
    found: Sequence[Recovered],
    target: str,
    *,
    begun: frozenset[str],
    clock: Clock,
) -> Mapping[str, str]:
    refused = {each.version.blob: "reference" for each in found if not storable(each.reference)}
    lost = newest.lost(connection, [each for each in found if each.version.blob in begun])
    refused |= dict.fromkeys(lost, "purged")
    good = [each for each in found if each.version.blob not in refused]
    if not good:
        return refused
    in_order = sorted(tenants, key=lambda tenant: tenant.id)
    known = [{"id": t.id, "tier": t.tier, "created": t.created} for t in in_order]
    _NEW_TENANT.each(connection, known)
    first = {each.version.attachment: each for each in reversed(good)}
    rows = [_attachment_row(each) for _, each in sorted(first.items())]
    _NEW_ATTACHMENT.each(connection, rows)
    refused |= _refused(connection, good)
    chosen = newest.choose(connection, [e for e in good if e.version.blob not in refused])
    for version in _insert_versions(connection, chosen.taken, target):
        # One of two that rebuild at once has it from another target, under another KEK perhaps.
        stale.doubt_one(connection, version.id, target, version.kek, clock)
    newest.place(connection, chosen, target, clock)
    return refused | chosen.refused


def _attachment_row(found: Recovered) -> dict[str, Any]:
    version = found.version
    return {
        "id": version.attachment,
        "tenant": version.tenant,
        "reference": found.reference,
        "created": version.created,
        "deleted": UNSETTLED,
    }


def _refused(connection: Connection, found: Sequence[Recovered]) -> dict[str, str]:
    """Say what contradicts the rows that are there, or another one of these."""
    owners = {
        row.id: row
        for row in connection.execute(
            select(
                _ATTACHMENTS.c.id,
                _ATTACHMENTS.c.tenant,
                _ATTACHMENTS.c.reference,
                _ATTACHMENTS.c.purging,
            ).where(_ATTACHMENTS.c.id.in_({each.version.attachment for each in found}))
        )
    }
    there = select(_VERSIONS.c.id, _VERSIONS.c.blob).where(
        _VERSIONS.c.blob.in_({each.version.blob for each in found})
    )
    versions = {row.blob: row.id for row in connection.execute(there)}  # of blobs
    refused = {}
    for each in found:
        version, owner = each.version, owners[each.version.attachment]
        if (owner.tenant, owner.reference) != (version.tenant, each.reference):
            refused[version.blob] = "foreign"
        elif owner.purging is not None:
            refused[version.blob] = "purged"
        elif versions.setdefault(version.blob, version.id) != version.id:
            refused[version.blob] = "duplicate"
    return refused


def _insert_versions(
    connection: Connection, found: Sequence[Recovered], target: str
) -> Sequence[Version]:
    """Add what is not there; return the rest."""
    if not found:
        return []
    lowest = select(_VERSIONS.c.attachment, func.min(_VERSIONS.c.number)).where(
        _VERSIONS.c.attachment.in_({each.version.attachment for each in found})
    )
    last = {
        attachment: min(number, 0)
        for attachment, number in connection.execute(lowest.group_by(_VERSIONS.c.attachment))
    }
    there = select(_VERSIONS.c.id).where(_VERSIONS.c.id.in_([each.version.id for each in found]))
    known = set(connection.scalars(there))
    rows, replicas, rest = [], [], []
    for version in sorted((each.version for each in found), key=lambda version: version.id):
        if version.id not in known:
            number = last[version.attachment] = last.get(version.attachment, 0) - 1
            known.add(version.id)
            rows.append(
                {
                    "id": version.id,
                    "attachment": version.attachment,
                    "number": number,
                    "blob": version.blob,
                    "created": version.created,
                    "size": version.size,
                    "body_size": version.body_size,
                    "envelope": version.envelope,
                    "kek": version.kek,
                    "inline": version.inline,
                }
            )
        else:
            rest.append(version)
        replicas.append(
            {"version": version.id, "target": target, "state": ReplicaState.STORED.value}
        )
    _NEW_VERSION.each(connection, rows)
    _NEW_REPLICA.each(connection, replicas)
    return rest


def _settle(connection: Connection, at: datetime) -> Settled:
    added = connection.scalar(select(func.count()).where(_VERSIONS.c.number < 0)) or 0
    attachments = connection.scalar(select(func.count()).where(_IS_UNSETTLED)) or 0
    if not added and not attachments:
        return Settled()
    touched = _ATTACHMENTS.c.id.in_(
        select(_VERSIONS.c.attachment).where(_VERSIONS.c.number < 0).distinct()
    )
    # A row that refers to a number is let go of first; this locks it for the rest, too.
    connection.execute(update(_ATTACHMENTS).where(touched).values(current=None))
    # It was brought back from the trash if it got a version since: it waits there for all of its time.
    again = update(_ATTACHMENTS).where(touched, tables.IN_TRASH, ~_IS_UNSETTLED)
    connection.execute(again.values(deleted_tick=ticks.COUNTED))
    _number(connection)
    connection.execute(
        update(_ATTACHMENTS)
        .where(_ATTACHMENTS.c.current.is_(None), _ATTACHMENTS.c.purging.is_(None), _has_versions())
        .values(
            current=_of_versions(func.max(_VERSIONS.c.number)),
            created=_of_versions(func.min(_VERSIONS.c.created)),
        )
    )
    _close_uploads(connection, at)
    _count_replaced(connection, at)
    superseded = _choose(connection, at)
    _date_tenants(connection)
    return Settled(added, attachments, superseded)


def _number(connection: Connection) -> None:
    """Give the versions of every attachment that got some their numbers, from 1 by creation."""
    changed = select(_VERSIONS.c.attachment).where(_VERSIONS.c.number < 0).distinct()
    order = func.row_number().over(
        partition_by=_VERSIONS.c.attachment, order_by=[_VERSIONS.c.created, _VERSIONS.c.id]
    )
    ranked = (
        select(_VERSIONS.c.id, order.label("place"))
        .where(_VERSIONS.c.attachment.in_(changed))
        .subquery()
    )
    apart = update(_VERSIONS).where(_VERSIONS.c.id == ranked.c.id)
    connection.execute(apart.values(number=-_APART - ranked.c.place))
    final = update(_VERSIONS).where(_VERSIONS.c.number < -_APART)
    connection.execute(final.values(number=-_APART - _VERSIONS.c.number))


def _close_uploads(connection: Connection, at: datetime) -> None:
    """End the uploads, and their operations, that turned out to have become versions."""
    became = select(_VERSIONS.c.id)
    pending = and_(_OPERATIONS.c.version.is_(None), _OPERATIONS.c.upload.in_(became))
    done = update(_OPERATIONS).where(pending)
    connection.execute(done.values(version=_OPERATIONS.c.upload, touched=at))
    connection.execute(delete(tables.uploads).where(tables.uploads.c.id.in_(became)))


def _count_replaced(connection: Connection, at: datetime) -> None:
    """Let versions that are not current count as replaced from now on."""
    replaced = tables.replaced
    known = exists().where(replaced.c.version == _VERSIONS.c.id)
    late = (
        select(_VERSIONS.c.id, _ATTACHMENTS.c.tenant, literal(at, tables.Moment), ticks.COUNTED)
        .join_from(_VERSIONS, _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment)
        .where(_VERSIONS.c.number < _ATTACHMENTS.c.current, _VERSIONS.c.purging.is_(None), ~known)
    )
    columns = [replaced.c.version, replaced.c.tenant, replaced.c.at, replaced.c.tick]
    connection.execute(insert(replaced).from_select(columns, late))


def _choose(connection: Connection, at: datetime) -> int:
    """Leave one attachment live for each reference; return how many others went to the trash."""
    newest = func.coalesce(_VERSIONS.c.created, -1)
    place = func.row_number().over(
        partition_by=[_ATTACHMENTS.c.tenant, _ATTACHMENTS.c.reference],
        order_by=[newest.desc(), _ATTACHMENTS.c.id.desc()],
    )
    is_current = and_(
        _VERSIONS.c.attachment == _ATTACHMENTS.c.id, _VERSIONS.c.number == _ATTACHMENTS.c.current
    )
    ranked = (
        select(_ATTACHMENTS.c.id, place.label("place"))
        .outerjoin_from(_ATTACHMENTS, _VERSIONS, is_current)
        .where(or_(tables.LIVE, _IS_UNSETTLED))
        .subquery()
    )
    late = _ATTACHMENTS.c.id.in_(select(ranked.c.id).where(ranked.c.place > 1))
    superseded = connection.execute(update(_ATTACHMENTS).where(late).values(deleted=at)).rowcount
    connection.execute(update(_ATTACHMENTS).where(_IS_UNSETTLED).values(deleted=None))
    return superseded


def _date_tenants(connection: Connection) -> None:
    """No tenant is younger than its oldest attachment."""
    oldest = (
        select(_ATTACHMENTS.c.tenant, func.min(_ATTACHMENTS.c.created).label("oldest"))
        .group_by(_ATTACHMENTS.c.tenant)
        .subquery()
    )
    tenants = tables.tenants
    older = and_(tenants.c.id == oldest.c.tenant, tenants.c.created > oldest.c.oldest)
    connection.execute(update(tenants).where(older).values(created=oldest.c.oldest))


def _of_versions(value: ColumnElement[Any]) -> Any:
    """Return a subquery for a figure of the versions of the attachment at hand."""
    return select(value).where(_READABLE).correlate(_ATTACHMENTS).scalar_subquery()


def _has_versions() -> ColumnElement[bool]:
    return exists().where(_READABLE)
