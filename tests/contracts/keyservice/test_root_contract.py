"""What every root promises (keyservice.ports.Root)."""

import asyncio
import secrets
from collections.abc import Callable

import pytest

from keyservice.errors import CannotUnwrap, UnknownTenant
from keyservice.ports import Root
from keyservice.records import Tier
from tests.contracts.keyservice.conftest import Pair

TIERS = pytest.mark.parametrize("tier", list(Tier))


def new_tenant() -> str:
    return secrets.token_hex(16)


@TIERS
async def test_what_was_wrapped_opens(root: Root, tier: Tier) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, tier)
    wrapped = await root.wrap(tenant, tier, kek)
    assert wrapped.isascii()
    assert await root.unwrap(tenant, tier, wrapped) == kek


@TIERS
async def test_another_instance_opens_it(again: Callable[[], Pair], tier: Tier) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    one, other = again().root, again().root
    await one.create(tenant, tier)
    assert await other.unwrap(tenant, tier, await one.wrap(tenant, tier, kek)) == kek


@TIERS
async def test_it_is_another_text_each_time(root: Root, tier: Tier) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, tier)
    assert await root.wrap(tenant, tier, kek) != await root.wrap(tenant, tier, kek)


@TIERS
async def test_it_opens_for_no_other_tenant(root: Root, tier: Tier) -> None:
    one, other = new_tenant(), new_tenant()
    await root.create(one, tier)
    await root.create(other, tier)
    wrapped = await root.wrap(one, tier, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(other, tier, wrapped)


@pytest.mark.parametrize(("made", "asked"), [tuple(Tier), tuple(Tier)[::-1]])
async def test_it_opens_for_no_other_tier(root: Root, made: Tier, asked: Tier) -> None:
    tenant = new_tenant()
    for tier in Tier:
        await root.create(tenant, tier)
    wrapped = await root.wrap(tenant, made, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, asked, wrapped)


@TIERS
async def test_create_changes_nothing_the_second_time(root: Root, tier: Tier) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await asyncio.gather(*(root.create(tenant, tier) for _ in range(8)))
    wrapped = await root.wrap(tenant, tier, kek)
    await root.create(tenant, tier)
    assert await root.unwrap(tenant, tier, wrapped) == kek


async def test_a_business_tenant_needs_a_root_key_of_its_own(root: Root) -> None:
    tenant = new_tenant()
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, Tier.BUSINESS, secrets.token_bytes(32))
    other = new_tenant()
    await root.create(other, Tier.BUSINESS)
    wrapped = await root.wrap(other, Tier.BUSINESS, secrets.token_bytes(32))
    with pytest.raises(UnknownTenant):
        await root.unwrap(tenant, Tier.BUSINESS, wrapped)


@TIERS
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
async def test_damage_does_not_open(root: Root, tier: Tier, place: float) -> None:
    tenant = new_tenant()
    await root.create(tenant, tier)
    wrapped = await root.wrap(tenant, tier, secrets.token_bytes(32))
    at = int(len(wrapped) * place)
    flipped = "A" if wrapped[at] != "A" else "B"
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, tier, wrapped[:at] + flipped + wrapped[at + 1 :])


@pytest.mark.parametrize("text", ["", "A", "vault:v1:", "local:v1:", "local:v1:%%", "é", "0" * 500])
async def test_what_is_no_wrapped_key_does_not_open(root: Root, text: str) -> None:
    with pytest.raises(CannotUnwrap):
        await root.unwrap(new_tenant(), Tier.STANDARD, text)


@pytest.mark.parametrize("tenant", ["", "../standard", "A" * 32, "0" * 31, "0" * 32 + "/x"])
@TIERS
async def test_what_is_no_tenant_leads_nowhere(root: Root, tenant: str, tier: Tier) -> None:
    with pytest.raises(UnknownTenant):
        await root.create(tenant, Tier.BUSINESS)
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, tier, secrets.token_bytes(32))


async def test_many_at_once(root: Root) -> None:
    tenant, keks = new_tenant(), [secrets.token_bytes(32) for _ in range(32)]
    wrapped = await asyncio.gather(*(root.wrap(tenant, Tier.STANDARD, kek) for kek in keks))
    opened = await asyncio.gather(*(root.unwrap(tenant, Tier.STANDARD, text) for text in wrapped))
    assert opened == keks


async def test_status_is_healthy_and_close_repeatable(root: Root) -> None:
    status = await root.status()
    assert status.healthy
    assert root.kind in status.detail
    await root.close()
    await root.close()
