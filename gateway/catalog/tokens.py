"""Tokens, as functions over a connection that is in a transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from gateway.catalog import tables
from gateway.catalog.faults import parent_missing
from gateway.catalog.prepared import Prepared
from gateway.errors import NotFound
from gateway.model import Right, Token

_TOKENS = tables.tokens
_NAMED = Prepared(select(_TOKENS).where(_TOKENS.c.id == bindparam("token")))


def add(connection: Connection, token: Token) -> None:
    """Implement `Catalog.add_token`."""
    row = {
        "id": token.id,
        "secret_hash": token.secret_hash,
        "tenant": token.tenant,
        "rights": " ".join(sorted(token.rights)),
        "created": token.created,
        "expires": token.expires,
    }
    with parent_missing(NotFound("no such tenant")):
        connection.execute(insert(_TOKENS), row)


def get(connection: Connection, token: str) -> Token:
    """Implement `Catalog.token`."""
    row = _NAMED.first(connection, token=token)
    if row is None:
        raise NotFound("no such token")
    return _token(row)


def of(connection: Connection, tenant: str | None) -> Sequence[Token]:
    """Implement `Catalog.tokens`."""
    scope = _TOKENS.c.tenant.is_(None) if tenant is None else _TOKENS.c.tenant == tenant
    query = select(_TOKENS).where(scope).order_by(_TOKENS.c.created, _TOKENS.c.id)
    return [_token(row) for row in connection.execute(query)]


def remove(connection: Connection, token: str) -> None:
    """Implement `Catalog.remove_token`."""
    if connection.execute(delete(_TOKENS).where(_TOKENS.c.id == token)).rowcount == 0:
        raise NotFound("no such token")


def _token(row: Row[*tuple[Any, ...]]) -> Token:
    return Token(
        id=row.id,
        secret_hash=row.secret_hash,
        tenant=row.tenant,
        # A right that only a newer version knows is no right here.
        rights=frozenset(right for right in Right if right.value in row.rights.split()),
        created=row.created,
        expires=row.expires,
    )
