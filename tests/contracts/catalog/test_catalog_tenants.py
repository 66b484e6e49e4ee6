"""Tenants and tokens, on both databases."""

import pytest
from sqlalchemy import update

from gateway.catalog import SqlCatalog
from gateway.catalog.tables import tokens
from gateway.errors import CatalogConflict, NotFound
from gateway.model import Right, Tenant, Token, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.samples import START, at


def _token(tenant: str | None, *rights: Right) -> Token:
    return Token(new_id(), bytes(range(32)), tenant, frozenset(rights), START, at(60))


async def test_tenant_is_kept(catalog: Catalog) -> None:
    tenant = Tenant(new_id(), "business", START)
    await catalog.add_tenant(tenant)
    assert await catalog.tenant(tenant.id) == tenant


async def test_tenant_is_added_once(catalog: Catalog, tenant: str) -> None:
    with pytest.raises(CatalogConflict):
        await catalog.add_tenant(Tenant(tenant, "business", START))
    assert (await catalog.tenant(tenant)).tier == "standard"


async def test_unknown_tenant(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.tenant(new_id())


async def test_a_policy_is_kept_and_taken_back(catalog: Catalog, tenant: str) -> None:
    for policy in ("primary+1,regions:2", None):
        await catalog.set_quorum(tenant, policy)
        assert (await catalog.tenant(tenant)).quorum == policy
    with pytest.raises(NotFound):
        await catalog.set_quorum(new_id(), "all")


async def test_a_tier_is_noted(catalog: Catalog, tenant: str) -> None:
    await catalog.set_tier(tenant, "business")
    assert (await catalog.tenant(tenant)).tier == "business"
    with pytest.raises(NotFound):
        await catalog.set_tier(new_id(), "business")


async def test_tenants_by_page(catalog: Catalog) -> None:
    ids = sorted(new_id() for _ in range(5))
    for tenant in reversed(ids):
        await catalog.add_tenant(Tenant(tenant, "standard", START))
    assert [t.id for t in await catalog.tenants(None, 3)] == ids[:3]
    assert [t.id for t in await catalog.tenants(ids[2], 3)] == ids[3:]
    assert await catalog.tenants(ids[4], 3) == []


async def test_token_is_kept(catalog: Catalog, tenant: str) -> None:
    token = _token(tenant, Right.WRITE, Right.READ)
    await catalog.add_token(token)
    assert await catalog.token(token.id) == token


async def test_token_for_every_tenant_that_never_expires(catalog: Catalog) -> None:
    token = Token(new_id(), b"\0" * 32, None, frozenset(Right), START, None)
    await catalog.add_token(token)
    assert await catalog.token(token.id) == token


async def test_token_is_added_once(catalog: Catalog, tenant: str) -> None:
    token = _token(tenant, Right.READ)
    await catalog.add_token(token)
    with pytest.raises(CatalogConflict):
        await catalog.add_token(token)


async def test_token_of_an_unknown_tenant(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.add_token(_token(new_id(), Right.READ))


async def test_tokens_by_scope(catalog: Catalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    everywhere, here, there = _token(None), _token(tenant), _token(other.id)
    for token in (everywhere, here, there):
        await catalog.add_token(token)
    assert await catalog.tokens(tenant) == [here]
    assert await catalog.tokens(other.id) == [there]
    assert await catalog.tokens(None) == [everywhere]


async def test_token_is_revoked(catalog: Catalog, tenant: str) -> None:
    token = _token(tenant, Right.READ)
    await catalog.add_token(token)
    await catalog.remove_token(token.id)
    with pytest.raises(NotFound):
        await catalog.token(token.id)
    with pytest.raises(NotFound):
        await catalog.remove_token(token.id)


async def test_right_that_only_a_newer_version_knows(catalog: SqlCatalog, tenant: str) -> None:
    token = _token(tenant, Right.READ)
    await catalog.add_token(token)
    newer = update(tokens).where(tokens.c.id == token.id).values(rights="divine read")
    await catalog._database.write(lambda connection: connection.execute(newer).rowcount)
    assert await catalog.token(token.id) == token
