"""What every root promises (keyservice.ports.Root)."""

import asyncio
import itertools
import secrets
from collections.abc import Callable

import pytest

from keyservice.errors import CannotUnwrap, UnknownTenant
from keyservice.ports import Root
from keyservice.records import OWN, SHARED, Custody, RootRef
from tests.contracts.keyservice.conftest import Pair

REFS = (SHARED, OWN, RootRef(Custody.OWN, "0a1b2c3d"))
ROOTS = pytest.mark.parametrize("ref", REFS, ids=str)


def new_tenant() -> str:
    return secrets.token_hex(16)


@ROOTS
async def test_what_was_wrapped_opens(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, ref, kek)
    assert wrapped.isascii()
    assert await root.unwrap(tenant, ref, wrapped) == kek


@ROOTS
async def test_another_instance_opens_it(again: Callable[[], Pair], ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    one, other = again().root, again().root
    await one.create(tenant, ref)
    assert await other.unwrap(tenant, ref, await one.wrap(tenant, ref, kek)) == kek


@ROOTS
async def test_it_is_another_text_each_time(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await root.create(tenant, ref)
    assert await root.wrap(tenant, ref, kek) != await root.wrap(tenant, ref, kek)


@ROOTS
async def test_it_opens_for_no_other_tenant(root: Root, ref: RootRef) -> None:
    one, other = new_tenant(), new_tenant()
    await root.create(one, ref)
    await root.create(other, ref)
    wrapped = await root.wrap(one, ref, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(other, ref, wrapped)


@pytest.mark.parametrize(("made", "asked"), list(itertools.permutations(REFS, 2)), ids=str)
async def test_it_opens_under_no_other_root(root: Root, made: RootRef, asked: RootRef) -> None:
    tenant = new_tenant()
    for ref in REFS:
        await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, made, secrets.token_bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, asked, wrapped)


@ROOTS
async def test_create_changes_nothing_the_second_time(root: Root, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await asyncio.gather(*(root.create(tenant, ref) for _ in range(8)))
    wrapped = await root.wrap(tenant, ref, kek)
    await root.create(tenant, ref)
    assert await root.unwrap(tenant, ref, wrapped) == kek


async def test_a_business_tenant_needs_a_root_key_of_its_own(root: Root) -> None:
    tenant = new_tenant()
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, OWN, secrets.token_bytes(32))
    other = new_tenant()
    await root.create(other, OWN)
    wrapped = await root.wrap(other, OWN, secrets.token_bytes(32))
    with pytest.raises(UnknownTenant):
        await root.unwrap(tenant, OWN, wrapped)


@ROOTS
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
async def test_damage_does_not_open(root: Root, ref: RootRef, place: float) -> None:
    tenant = new_tenant()
    await root.create(tenant, ref)
    wrapped = await root.wrap(tenant, ref, secrets.token_bytes(32))
    at = int(len(wrapped) * place)
    flipped = "A" if wrapped[at] != "A" else "B"
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant, ref, wrapped[:at] + flipped + wrapped[at + 1 :])


@pytest.mark.parametrize("text", ["", "A", "vault:v1:", "local:v1:", "local:v1:%%", "é", "0" * 500])
async def test_what_is_no_wrapped_key_does_not_open(root: Root, text: str) -> None:
    with pytest.raises(CannotUnwrap):
        await root.unwrap(new_tenant(), SHARED, text)


@pytest.mark.parametrize("tenant", ["", "../standard", "A" * 32, "0" * 31, "0" * 32 + "/x"])
@ROOTS
async def test_what_is_no_tenant_leads_nowhere(root: Root, tenant: str, ref: RootRef) -> None:
    with pytest.raises(UnknownTenant):
        await root.create(tenant, OWN)
    with pytest.raises(UnknownTenant):
        await root.wrap(tenant, ref, secrets.token_bytes(32))


async def test_many_at_once(root: Root) -> None:
    tenant, keks = new_tenant(), [secrets.token_bytes(32) for _ in range(32)]
    wrapped = await asyncio.gather(*(root.wrap(tenant, SHARED, kek) for kek in keks))
    opened = await asyncio.gather(*(root.unwrap(tenant, SHARED, text) for text in wrapped))
    assert opened == keks


async def test_status_is_healthy_and_close_repeatable(root: Root) -> None:
    status = await root.status()
    assert status.healthy
    assert root.kind in status.detail
    await root.close()
    await root.close()
