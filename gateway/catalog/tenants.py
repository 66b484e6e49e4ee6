"""Tenants, as functions over a connection that is in a transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from gateway.catalog import tables
from gateway.errors import NotFound
from gateway.model import Tenant

_TENANTS = tables.tenants


def add(connection: Connection, tenant: Tenant) -> None:
    """Implement `Catalog.add_tenant`."""
    row = {
        "id": tenant.id,
        "tier": tenant.tier,
        "created": tenant.created,
        "quorum": tenant.quorum,
    }
    connection.execute(insert(_TENANTS), row)


def get(connection: Connection, tenant: str) -> Tenant:
    """Implement `Catalog.tenant`."""
    row = connection.execute(select(_TENANTS).where(_TENANTS.c.id == tenant)).first()
    if row is None:
        raise NotFound("no such tenant")
    return _tenant(row)


def set_quorum(connection: Connection, tenant: str, quorum: str | None) -> None:
    """Implement `Catalog.set_quorum`."""
    _set(connection, tenant, quorum=quorum)


def set_tier(connection: Connection, tenant: str, tier: str) -> None:
    """Implement `Catalog.set_tier`."""
    _set(connection, tenant, tier=tier)


def page(connection: Connection, after: str | None, limit: int) -> Sequence[Tenant]:
    """Implement `Catalog.tenants`."""
    query = select(_TENANTS).order_by(_TENANTS.c.id).limit(limit)
    if after is not None:
        query = query.where(_TENANTS.c.id > after)
    return [_tenant(row) for row in connection.execute(query)]


def _set(connection: Connection, tenant: str, **values: str | None) -> None:
    change = update(_TENANTS).where(_TENANTS.c.id == tenant).values(**values)
    if connection.execute(change).rowcount == 0:
        raise NotFound("no such tenant")


def _tenant(row: Row[*tuple[Any, ...]]) -> Tenant:
    return Tenant(id=row.id, tier=row.tier, created=row.created, quorum=row.quorum)
