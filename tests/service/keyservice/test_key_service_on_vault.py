"""The whole service on a real Vault: stampedes, sealing, and both tiers, over mutual TLS."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from keyservice.client.client import KeyServiceClient
from keyservice.errors import Unavailable
from keyservice.wire import DataKey, WrappedKey
from keyservice.wiring.app import running
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import NewVault, Vault
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_outages import figure

CALL = {"reason": "test", "request_id": "r-1"}
UNWRAPS = 'sealgate_keyservice_root_calls_total{call="unwrap",outcome="ok"}'


def vault_root(prepared: PreparedVault) -> Mapping[str, Any]:
    """Return the `root` settings of a prepared Vault."""
    login, setup = prepared.login, prepared.setup
    approle = {
        "role_id_file": login.role_id_file,
        "secret_id_file": login.secret_id_file,
        "mount": login.mount,
    }
    vault = {
        "url": prepared.server.address,
        "ca_file": prepared.server.ca,
        "transit_mount": setup.transit_mount,
        "kv_mount": setup.kv_mount,
        "standard_key": setup.standard_key,
        "approle": approle,
        "timeout": 15.0,
        "deadline": 25.0,
    }
    return {"vault": vault}


async def one_key(client: KeyServiceClient, tenant: str) -> DataKey:
    """Return a fresh key for the context `c`."""
    key = (await client.data_keys(tenant, [b"c"], **CALL))[0]
    assert isinstance(key, DataKey)
    return key


@pytest.mark.parametrize("tier", ["standard", "business"])
async def test_a_stampede_makes_one_vault_call(
    site: Site, tenant: str, tier: str, vault: Vault, tmp_path: Path
) -> None:
    prepared = await asyncio.to_thread(prepare, vault, tmp_path)
    settings = site.tls_settings(root=vault_root(prepared), probes={"port": 0})
    async with running(settings) as service, site.tls_client(service.url) as client:
        assert (await client.status()).root == "vault"
        await client.create_tenant(tenant, tier=tier)
        key = await one_key(client, tenant)
    async with (
        running(settings) as service,
        site.tls_client(service.url, cache_size=0, timeout=60, attempt_timeout=60) as client,
    ):
        assert service.probes_url is not None
        item = [WrappedKey(key.wrapped, b"c")]
        found = await asyncio.gather(*(client.unwrap(tenant, item, **CALL) for _ in range(1000)))
        assert all(answer == [key.dek] for answer in found)
        assert await figure(service.probes_url, UNWRAPS) == 1


async def test_a_sealed_vault_leaves_warm_tenants_alone(
    site: Site, new_vault: NewVault, tmp_path: Path
) -> None:
    warm, cold = "a" * 32, "b" * 32
    server = await asyncio.to_thread(new_vault)
    await asyncio.to_thread(server.open)
    prepared = await asyncio.to_thread(prepare, server, tmp_path)
    settings = site.settings(root=vault_root(prepared))
    async with (
        running(settings) as service,
        site.client(service.url, cache_size=0, attempts=1) as client,
        aiohttp.ClientSession() as session,
    ):
        for tenant in (cold, warm):
            await client.create_tenant(tenant)
        key = await one_key(client, warm)
        item = [WrappedKey(key.wrapped, b"c")]
        await asyncio.to_thread(server.seal)
        assert await client.unwrap(warm, item, **CALL) == [key.dek]
        with pytest.raises(Unavailable) as refused:
            await client.data_keys(cold, [b"c"], **CALL)
        assert refused.value.retry_after
        with pytest.raises(Unavailable):
            await client.create_tenant("c" * 32)
        assert not (await client.status()).healthy
        async with session.get(service.url + "/readyz") as response:
            assert response.status == 200
            assert "root: degraded" in await response.text()
        await asyncio.to_thread(server.open)
        assert await one_key(client, cold)
        async with asyncio.timeout(60):  # what was found is believed for a moment
            while not (await client.status()).healthy:  # noqa: ASYNC110 - it has to be asked
                await asyncio.sleep(0.1)
