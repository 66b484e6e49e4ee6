"""The end of a tenant over the wire: instances with ledgers of their own, and restarts."""

import asyncio
import json
import shutil
from typing import Any

import aiohttp
import pytest

from envelope.signature import verify
from keyservice.client.client import KeyServiceClient
from keyservice.config import Probes, Settings
from keyservice.errors import Denied, Invalid, Shredded, Shredding, WrongState
from keyservice.layered import ConfigError
from keyservice.wire import DataKey, WrappedKey
from keyservice.wiring.app import running
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_outages import figure

CALL = {"reason": "test", "request_id": "r-1"}
AT_ONCE = {"days": 0, "least_days": 0}


def settings_of(site: Site, name: str, **ledger: Any) -> Settings:
    """Return the settings of an instance whose orders may be due at once."""
    audit = {"file": site.folder / f"{name}.jsonl"}
    return site.settings(audit=audit, shred=AT_ONCE, ledger=ledger)


async def a_key(client: KeyServiceClient, tenant: str) -> DataKey:
    (key,) = await client.data_keys(tenant, [b"c"], **CALL)
    assert isinstance(key, DataKey)
    return key


async def shredded(client: KeyServiceClient, tenant: str) -> Any:
    """Order it, carry it out, and return the signed receipt."""
    await client.shreds.order_shred(tenant, reason="closed")
    return (await client.shreds.execute_shred(tenant, reason="due")).signed


async def test_ordered_undone_and_carried_out(site: Site, tenant: str) -> None:
    settings = settings_of(site, "one").model_copy(update={"probes": Probes(port=0)})
    async with running(settings) as service, site.client(service.url) as client:
        await client.create_tenant(tenant, tier="business")
        key = await a_key(client, tenant)
        ordered = await client.shreds.order_shred(tenant, reason="closed", days=30)
        assert ordered.order is not None
        assert (ordered.order.by, ordered.order.reason) == ("token:development", "closed")
        with pytest.raises(Shredding):
            await client.unwrap(tenant, [WrappedKey(key.wrapped, b"c")], **CALL)
        with pytest.raises(WrongState, match="approval"):
            await client.shreds.execute_shred(tenant, reason="now")
        with pytest.raises(Denied, match="second administrator"):
            await client.shreds.approve_shred(tenant, reason="me again")
        with pytest.raises(WrongState, match="not in this instance's"):
            await client.shreds.shred_receipt(tenant)
        undone = await client.shreds.undo_shred(tenant, reason="wrong one")
        assert (undone.state, undone.order) == ("active", None)
        assert await client.unwrap(tenant, [WrappedKey(key.wrapped, b"c")], **CALL) == [key.dek]
        signed = await shredded(client, tenant)
        page = await client.shreds.ledger()
        assert verify(json.dumps(signed).encode(), page.public)["tenant"] == tenant
        assert client.shreds.faults(page.entries, [page.public]) == []
        assert (await client.shreds.shred_receipt(tenant)).signed == signed
        assert (await client.shreds.ledger(page.entries[-1].hash)).entries == ()
        for refused in (a_key(client, tenant), client.create_tenant(tenant, tier="business")):
            with pytest.raises(Shredded):
                await refused
        assert (await client.tenant(tenant)).state == "shredded"
        assert service.probes_url is not None
        dead, waiting = "sealgate_keyservice_shredded_tenants", "sealgate_keyservice_shreds_waiting"
        assert await figure(service.probes_url, dead) == 1
        assert await figure(service.probes_url, waiting) == 0
    assert not (site.folder / "root.key.tenants" / f"{tenant}.key").exists()
    audit = await asyncio.to_thread((site.folder / "one.jsonl").read_text)
    assert f'"operation":"execute-shred","key":"{key.kek}"' in audit


async def test_a_record_that_is_restored_dies_again_at_the_next_start(
    site: Site, tenant: str
) -> None:
    settings, records = settings_of(site, "one"), site.folder / "records"
    async with running(settings) as service, site.client(service.url) as client:
        await client.create_tenant(tenant)
        await asyncio.to_thread(shutil.copy, records / f"{tenant}.json", site.folder / "backup")
        await shredded(client, tenant)
    await asyncio.to_thread(shutil.copy, site.folder / "backup", records / f"{tenant}.json")
    async with running(settings) as service, site.client(service.url) as client:
        assert (await client.tenant(tenant)).state == "shredded"
        for _ in range(1200):
            audit = await asyncio.to_thread((site.folder / "one.jsonl").read_text)
            if '"caller":"keyservice"' in audit:
                break
            await asyncio.sleep(0.05)
        assert '"caller":"keyservice"' in audit, "what the service did by itself is on record"
        text = await asyncio.to_thread((records / f"{tenant}.json").read_text)
        assert '"state": "shredded"' in text
        assert "local:v1:" not in text
        assert (await client.shreds.shred_receipt(tenant)).receipt["tenant"] == tenant


async def test_entries_go_to_instances_that_trust_the_key(site: Site, tenant: str) -> None:
    async with running(settings_of(site, "one")) as service, site.client(service.url) as client:
        await client.create_tenant(tenant)
        await shredded(client, tenant)
        page = await client.shreds.ledger()
    texts = [entry.text for entry in page.entries]
    for name, trusted, taken in (("two", (), 0), ("three", (page.public,), 1)):
        settings = settings_of(site, name, trusted=trusted)
        async with running(settings) as service, site.client(service.url) as client:
            if not taken:
                with pytest.raises(Invalid, match="another key signed it"):
                    await client.shreds.add_to_ledger(texts)
                continue
            assert await client.shreds.add_to_ledger(texts) == page.entries
            assert await client.shreds.add_to_ledger(texts) == ()
            assert (await client.shreds.shred_receipt(tenant)).receipt["tenant"] == tenant


async def test_a_ledger_that_was_altered_keeps_the_service_from_starting(
    site: Site, tenant: str
) -> None:
    settings = settings_of(site, "one")
    async with running(settings) as service, site.client(service.url) as client:
        await client.create_tenant(tenant)
        await shredded(client, tenant)
    ledger = settings.ledger_file
    text = await asyncio.to_thread(ledger.read_text)
    await asyncio.to_thread(ledger.write_text, text.replace(tenant, "f" * 32))
    with pytest.raises(ConfigError, match="line 2"):
        async with running(settings):
            pass


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tenants/{}/shred", {"reason": "x", "days": -1}),
        ("/v1/tenants/{}/shred", {"days": 30}),
        ("/v1/tenants/{}/shred/approve", {"reason": "x", "force": True}),
        ("/v1/tenants/{}/shred/execute", {}),
        ("/v1/ledger", {"reason": "x", "entries": ["x" * (128 * 1024 + 1)]}),
        ("/v1/ledger", {"reason": "x", "entries": ["{}"]}),
    ],
)
async def test_what_is_not_understood_is_refused_and_on_record(
    site: Site, tenant: str, path: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {site.token}"}
    async with (
        running(settings_of(site, "one")) as service,
        aiohttp.ClientSession(service.url, headers=headers) as session,
        session.post(path.format(tenant), json=body) as answer,
    ):
        assert answer.status == 400
    audit = await asyncio.to_thread((site.folder / "one.jsonl").read_text)
    assert '"outcome":"invalid"' in audit
