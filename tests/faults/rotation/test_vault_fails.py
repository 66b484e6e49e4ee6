"""Vault is sealed in the middle of a rotation, and loses a record to a careless hand: nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from tests.faults.rotation.attachments import content, filled, get, keks, opened
from tests.servers.prepared import prepare
from tests.servers.vault import NewVault, SealableVault
from tests.stack.client import Client
from tests.stack.forks import told
from tests.stack.stack import Stack

TTL = 0.5


@pytest.fixture
def server(new_vault: NewVault) -> SealableVault:
    server = new_vault()
    server.open()
    return server


@pytest.fixture
def site(server: SealableVault, tmp_path: Path) -> Iterator[Stack]:
    """Run a stack on a Vault of its own, whose caches forget soon."""
    stack = Stack(
        tmp_path / "stack",
        targets={"primary": tmp_path / "primary", "east": tmp_path / "east"},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        vault=prepare(server, tmp_path),
        forget=TTL,
        extra={
            "keyservice": {"cache_ttl": TTL},
            "repair": {"enabled": False},
            "rotation": {"envelopes_per_second": 5},  # so that it takes longer than a test may rest
        },
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
async def client(site: Stack) -> AsyncIterator[Client]:
    token = await asyncio.to_thread(site.admin_token)
    async with Client(site.url, token) as application:
        yield application


async def test_vault_is_sealed_in_the_middle_of_a_rotation(
    client: Client, site: Stack, server: SealableVault
) -> None:
    tenant, names = await filled(client, "business")
    (old,) = (await keks(site, tenant))["catalog"]
    config = site.home / "gateway.toml"
    words = ("rotate", "kek", "--json", "--tenant", tenant)
    rotating = asyncio.create_task(asyncio.to_thread(told, config, *words))
    async with opened(site) as core:
        while old in {
            use.kek for use in await core.wraps.uses(tenant) if use.versions == len(names)
        }:
            assert not rotating.done()
            await asyncio.sleep(0.02)
    await asyncio.to_thread(server.seal)
    await asyncio.sleep(4 * TTL)  # until no cache knows a KEK any more
    assert not rotating.done()
    await asyncio.to_thread(server.open)
    (outcome,) = (await rotating)["tenants"]
    current = {outcome["kek"]}
    assert outcome["complete"], outcome
    assert old not in current
    assert await keks(site, tenant) == {"catalog": current, "primary": current, "east": current}
    for name in names:
        assert await get(client, tenant, name) == content(name)


async def test_a_record_that_was_deleted_by_accident_comes_back(
    client: Client, site: Stack, server: SealableVault
) -> None:
    tenant, names = await filled(client)
    prepared = site.vault
    assert prepared is not None
    mount, path = prepared.setup.kv_mount, f"tenants/{tenant}"

    def records(vault: hvac.Client) -> Any:
        return vault.secrets.kv.v2

    def delete() -> int:
        with server.client() as vault:
            held = records(vault).read_secret_version(
                path=path, mount_point=mount, raise_on_deleted_version=True
            )
            records(vault).delete_latest_version_of_secret(path=path, mount_point=mount)
            return int(held["data"]["metadata"]["version"])

    def undelete(version: int) -> None:
        with server.client() as vault:
            records(vault).undelete_secret_versions(
                path=path, versions=[version], mount_point=mount
            )

    version = await asyncio.to_thread(delete)
    await asyncio.sleep(4 * TTL)
    async with client.request("GET", f"/v1/tenants/{tenant}/attachments/{names[0]}") as answer:
        problem = await answer.json()
        assert (answer.status, problem["type"].rpartition(":")[2]) == (503, "keys-unavailable")
    other, others = await filled(client)  # whom it does not concern
    assert await get(client, other, others[0]) == content(others[0])
    await asyncio.to_thread(undelete, version)
    await asyncio.sleep(2 * TTL)
    for name in names:
        assert await get(client, tenant, name) == content(name)
