"""What a target should hold, by name and size, for those who compare it with what it does hold."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from gateway.catalog import tables
from gateway.model import ReplicaState
from gateway.ports import Holding, Kept

_ATTACHMENTS = tables.attachments
_REPLICAS = tables.replicas
_VERSIONS = tables.versions


def kept(connection: Connection, target: str, after: str | None, limit: int) -> Sequence[Kept]:
    """Read a page of stored replicas."""
    columns = (_VERSIONS.c.id, _ATTACHMENTS.c.tenant, _VERSIONS.c.blob, _VERSIONS.c.body_size)
    query = _stored(target, *columns)
    if after is not None:
        query = query.where(_REPLICAS.c.version > after)
    rows = connection.execute(query.order_by(_REPLICAS.c.version).limit(limit))
    return [Kept(row.id, row.tenant, row.blob, row.body_size) for row in rows]


def holding(connection: Connection, target: str, tenant: str | None) -> Holding:
    """Sum up stored replicas."""
    verified = _REPLICAS.c.checked > tables.EPOCH
    query = _stored(
        target,
        func.count().label("objects"),
        func.coalesce(func.sum(_VERSIONS.c.body_size), 0).label("bytes"),
        func.count().filter(~verified).label("unchecked"),
        func.min(_REPLICAS.c.checked, type_=tables.Moment).filter(verified).label("oldest"),
    )
    if tenant is not None:
        query = query.where(_ATTACHMENTS.c.tenant == tenant)
    row = connection.execute(query).one()
    return Holding(row.objects, int(row.bytes), row.unchecked, row.oldest)


def _stored(target: str, *columns: Any) -> Select[*tuple[Any, ...]]:
    joined = _REPLICAS.join(_VERSIONS, _VERSIONS.c.id == _REPLICAS.c.version).join(
        _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment
    )
    return (
        select(*columns)
        .select_from(joined)
        .where(
            _REPLICAS.c.target == target,
            _REPLICAS.c.state == ReplicaState.STORED.value,
            _VERSIONS.c.purging.is_(None),
        )
    )
