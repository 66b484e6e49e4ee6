"""What our own Vault can still open of a tenant whose owner holds the root key: in the end, nothing."""

import asyncio
import base64
from pathlib import Path

from keyservice.vault import setup as setup_vault
from keyservice.wire import TenantRoot
from keyservice.wiring.app import running
from tests.servers.owner import customer
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import SealableVault, Vault
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_on_vault import one_key, vault_root

WHY = "contract 12"


def openable(prepared: PreparedVault, tenant: str) -> int:
    """Return how many texts in any version of the record our Vault's root token can decrypt."""
    transit, kv = prepared.setup.transit_mount, prepared.setup.kv_mount
    context = base64.b64encode(tenant.encode()).decode()
    found = 0
    with setup_vault.administrator(prepared.server.address, prepared.server.root_token) as send:
        names = send("list", f"{transit}/keys")[1]["data"]["keys"]
        newest = send("get", f"{kv}/metadata/tenants/{tenant}")[1]["data"]["current_version"]
        for version in range(1, newest + 1):
            _, answer = send("get", f"{kv}/data/tenants/{tenant}?version={version}")
            record = (answer.get("data") or {}).get("data") or {}
            for kek in record.get("keks", ()):
                body = {"ciphertext": kek["wrapped"], "context": context}
                found += any(
                    send("post", f"{transit}/decrypt/{name}", body)[0] == 200 for name in names
                )
    return found


async def test_after_the_old_root_is_destroyed_our_vault_opens_nothing(
    site: Site, tenant: str, vault: Vault, owners_vault: SealableVault, tmp_path: Path
) -> None:
    prepared = await asyncio.to_thread(prepare, vault, tmp_path)
    owner = await asyncio.to_thread(customer, owners_vault, tmp_path, "acme")
    settings = site.settings(root=vault_root(prepared), held=[owner.section(tenant)])
    async with running(settings) as service, site.client(service.url, cache_size=0) as client:
        await client.create_tenant(tenant, tier="business")
        key = await one_key(client, tenant)
        held = TenantRoot("held", "acme")
        moved = await client.control.move(tenant, "business", held, reason=WHY)
        assert await asyncio.to_thread(openable, prepared, tenant)
        for root in moved.left:
            await client.control.destroy_root(tenant, root.name, reason=WHY)
        assert not await asyncio.to_thread(openable, prepared, tenant)
        assert (await client.tenant(tenant)).left == ()
        assert key.dek != (await one_key(client, tenant)).dek


async def test_a_tenant_that_was_standard_needs_a_new_kek(
    site: Site, tenant: str, vault: Vault, owners_vault: SealableVault, tmp_path: Path
) -> None:
    prepared = await asyncio.to_thread(prepare, vault, tmp_path)
    owner = await asyncio.to_thread(customer, owners_vault, tmp_path, "acme")
    settings = site.settings(root=vault_root(prepared), held=[owner.section(tenant)])
    async with running(settings) as service, site.client(service.url, cache_size=0) as client:
        await client.create_tenant(tenant)
        held = TenantRoot("held", "acme")
        moved = await client.control.move(tenant, "business", held, reason=WHY)
        assert await asyncio.to_thread(openable, prepared, tenant)
        old = moved.keks[-1].id
        await client.control.rotate_kek(tenant, old, reason=WHY)
        await client.control.retire_kek(tenant, old, reason=WHY)
        assert not await asyncio.to_thread(openable, prepared, tenant)
        assert await one_key(client, tenant)
