"""How keys are kept, changed over the wire: two instances of the service, on both roots."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from keyservice.certs import GATEWAY_NAME
from keyservice.client.client import KeyServiceClient
from keyservice.config import Settings
from keyservice.wire import (
    Altered,
    CannotUnwrap,
    DataKey,
    Denied,
    Invalid,
    KeyServiceError,
    Rate,
    Suspended,
    TenantRoot,
    Throttled,
    WrappedKey,
    WrongState,
)
from keyservice.wiring.app import running
from tests.servers.prepared import PreparedVault, prepare
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_on_vault import vault_root

CALL = {"reason": "test", "request_id": "r-1"}
WHY = "because"
OWN = TenantRoot("own")
SECOND = TenantRoot("own", "0a1b2c3d")


@dataclass(frozen=True, slots=True)
class Two:
    """Two instances over one root and one key store, and a client of each."""

    one: KeyServiceClient
    other: KeyServiceClient
    prepared: PreparedVault | None


def settings_of(site: Site, name: str, flags: Mapping[str, Any]) -> Settings:
    return site.settings(audit={"file": site.folder / f"{name}.jsonl"}, **flags)


@pytest.fixture(params=["local", "vault"])
async def two(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> AsyncIterator[Two]:
    prepared, flags = None, dict[str, Any]()
    if request.param == "vault":
        prepared = await asyncio.to_thread(prepare, request.getfixturevalue("vault"), tmp_path)
        flags = {"root": vault_root(prepared)}
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("one", "other"):
            service = await stack.enter_async_context(running(settings_of(site, name, flags)))
            clients.append(await stack.enter_async_context(site.client(service.url)))
        yield Two(clients[0], clients[1], prepared)


async def a_key(client: KeyServiceClient, tenant: str) -> DataKey:
    (key,) = await client.data_keys(tenant, [b"c"], **CALL)
    assert isinstance(key, DataKey)
    return key


async def opened(client: KeyServiceClient, tenant: str, key: DataKey) -> bytes | KeyServiceError:
    (dek,) = await client.unwrap(tenant, [WrappedKey(key.wrapped, b"c")], **CALL)
    return dek


async def test_a_tenant_goes_all_the_way(two: Two, tenant: str) -> None:
    one, other, control = two.one, two.other, two.one.control
    await one.create_tenant(tenant)
    first = await a_key(one, tenant)
    assert await opened(other, tenant, first) == first.dek

    keys = await control.rotate_kek(tenant, first.kek, reason=WHY)
    assert [kek.state for kek in keys.keks] == ["retired", "current"]
    assert await control.rotate_kek(tenant, first.kek, reason=WHY) == keys
    shown = await control.tenant(tenant)  # of [shred], `least_days` is 0 here
    assert [kek.retirable for kek in shown.keks] == [keys.keks[1].created, None]
    second = await a_key(one, tenant)
    assert second.kek == keys.keks[1].id
    assert await opened(other, tenant, second) == second.dek

    keys = await control.move(tenant, "business", OWN, reason=WHY)
    assert (keys.tier, keys.root, keys.cache_ttl) == ("business", OWN, 60.0)
    keys = await control.settings(tenant, cache_ttl=0.0, rate=Rate(100, 100), reason=WHY)
    assert (keys.cache_ttl, keys.rate) == (0.0, Rate(100, 100))
    keys = await control.rotate_root(tenant, reason=WHY)
    assert {kek.root_version for kek in keys.keks} == {2}
    versions = await control.root(tenant)
    assert (versions.latest, versions.minimum) == (2, 2)
    assert (await two.other.control.rewrap_root(tenant, reason=WHY)).keks == keys.keks
    assert await opened(other, tenant, first) == first.dek

    keys = await control.move(tenant, "business", SECOND, reason=WHY)
    assert (keys.root, keys.left) == (SECOND, (OWN,))
    with pytest.raises(WrongState):
        await control.destroy_root(tenant, SECOND.name, reason=WHY)
    assert (await control.destroy_root(tenant, "", reason=WHY)).left == ()
    assert await opened(other, tenant, second) == second.dek

    with pytest.raises(WrongState):
        await control.retire_kek(tenant, second.kek, reason=WHY)
    keys = await control.retire_kek(tenant, first.kek, reason=WHY)
    assert [kek.state for kek in keys.keks] == ["destroyed", "current"]
    assert isinstance(await opened(one, tenant, first), CannotUnwrap)
    assert isinstance(await opened(other, tenant, first), CannotUnwrap)
    assert await opened(other, tenant, second) == second.dek
    assert (await other.tenant(tenant)).revision == keys.revision


async def test_the_shared_root_rotates_beneath_its_tenants(two: Two, tenant: str) -> None:
    control = two.one.control
    await two.one.create_tenant(tenant)
    key = await a_key(two.one, tenant)
    before = await control.shared_root()
    for _ in range(2):
        assert (await control.rotate_shared(before.latest, reason=WHY)).latest == before.latest + 1
    with pytest.raises(WrongState, match="rewrap"):
        await control.retire_shared(before.latest + 1, reason=WHY)
    await control.rewrap_root(tenant, reason=WHY)
    found = await control.retire_shared(before.latest + 1, reason=WHY)
    assert found.latest == found.minimum == before.latest + 1
    assert await opened(two.other, tenant, key) == key.dek
    with pytest.raises(WrongState):
        await control.rotate_root(tenant, reason=WHY)


async def test_without_a_cache_time_a_suspension_holds_everywhere_at_once(
    two: Two, tenant: str
) -> None:
    await two.one.create_tenant(tenant, tier="business")
    key = await a_key(two.one, tenant)
    await two.one.control.settings(tenant, cache_ttl=0.0, reason=WHY)
    await two.other.control.settings(tenant, cache_ttl=0.0, reason=WHY)  # it heard of it by now
    for client in (two.one, two.other):
        assert (await a_key(client, tenant)).fresh == 0
        assert await opened(client, tenant, key) == key.dek
        await client.usable(tenant)
        assert len(client._cache) == 0
    await two.one.control.suspend(tenant, reason=WHY)
    for client in (two.other, two.one):
        with pytest.raises(Suspended):
            await opened(client, tenant, key)
        with pytest.raises(Suspended):
            await client.usable(tenant)
        with pytest.raises(Suspended):
            await a_key(client, tenant)
    await two.other.control.resume(tenant, reason=WHY)
    for client in (two.one, two.other):
        assert await opened(client, tenant, key) == key.dek


async def test_a_suspension_holds_everywhere_within_the_tenants_time(two: Two, tenant: str) -> None:
    await two.one.create_tenant(tenant, tier="business")
    key = await a_key(two.one, tenant)
    keys = await two.one.control.settings(tenant, cache_ttl=1.0, reason=WHY)
    two.other._transport.revisions.saw(tenant, keys.revision, asked=0)
    for client in (two.one, two.other):
        assert await opened(client, tenant, key) == key.dek
        assert (await a_key(client, tenant)).fresh <= 1.0
    await two.one.control.suspend(tenant, reason=WHY)
    with pytest.raises(Suspended):
        await opened(two.one, tenant, key)
    # The other client has the key at hand, and its instance the record: together a second, not two.
    await asyncio.sleep(1.05)
    with pytest.raises(Suspended):
        await opened(two.other, tenant, key)


async def test_whoever_saw_a_change_sees_nothing_before_it(two: Two, tenant: str) -> None:
    await two.one.create_tenant(tenant)
    key = await a_key(two.other, tenant)  # its instance has the record for five minutes
    keys = await two.one.control.rotate_kek(tenant, key.kek, reason=WHY)
    assert (await a_key(two.other, tenant)).kek == key.kek
    two.other._transport.revisions = two.one._transport.revisions  # as behind a load balancer
    assert keys.current is not None
    assert (await a_key(two.other, tenant)).kek == keys.current.id


async def test_a_tenants_own_rate_holds_for_it_alone(two: Two, tenant: str) -> None:
    await two.one.create_tenant(tenant, tier="business")
    await two.one.create_tenant("b" * 32, tier="business")
    await two.one.control.settings(tenant, rate=Rate(0.01, 2), reason=WHY)
    item = [WrappedKey(b"w", b"c")] * 10
    await two.one.unwrap(tenant, item, **CALL)
    with pytest.raises(Throttled):
        await a_key(two.one, tenant)
    await a_key(two.one, "b" * 32)
    await two.one.control.settings(tenant, unlimited=True, reason=WHY)
    await a_key(two.one, tenant)


async def test_what_makes_no_sense_is_not_sent(two: Two, tenant: str) -> None:
    control = two.one.control
    wrongs: list[Callable[[], Awaitable[object]]] = [
        lambda: control.settings(tenant, cache_ttl=-1.0, reason=WHY),
        lambda: control.settings(tenant, rate=Rate(0, 1), reason=WHY),
        lambda: control.move(tenant, "gold", OWN, reason=WHY),
        lambda: control.move(tenant, "business", TenantRoot("own", "../x"), reason=WHY),
        lambda: control.suspend("../status", reason=WHY),
        lambda: control.suspend(tenant, reason=""),
        lambda: control.retire_kek(tenant, "", reason=WHY),
    ]
    for wrong in wrongs:
        with pytest.raises(Invalid):
            await wrong()
    await two.one.create_tenant(tenant)
    with pytest.raises(Invalid):
        await control.move(tenant, "business", TenantRoot("own", "no-hex"), reason=WHY)
    await a_key(two.other, tenant)


@pytest.mark.parametrize("two", ["vault"], indirect=True)
async def test_a_record_that_vault_rolled_back_is_refused(two: Two, tenant: str) -> None:
    prepared = two.prepared
    assert prepared is not None
    await two.one.create_tenant(tenant, tier="business")
    key = await a_key(two.one, tenant)
    await two.one.control.settings(tenant, cache_ttl=0.0, reason=WHY)
    await two.one.control.suspend(tenant, reason=WHY)

    def roll_back(to: int) -> None:
        """Do what `vault kv rollback -version=N` does: write the old data as the newest version."""
        mount = prepared.setup.kv_mount
        with prepared.server.client() as vault:
            secret = vault.secrets.kv.v2
            old = secret.read_secret_version(
                f"tenants/{tenant}", version=to, mount_point=mount, raise_on_deleted_version=True
            )
            now = secret.read_secret_metadata(f"tenants/{tenant}", mount_point=mount)
            secret.create_or_update_secret(
                f"tenants/{tenant}",
                old["data"]["data"],
                cas=now["data"]["current_version"],
                mount_point=mount,
            )

    revision = (await two.one.tenant(tenant)).revision
    for version in (1, 2, 3):
        await asyncio.to_thread(roll_back, version)
        for client in (two.one, two.other):
            with pytest.raises(Altered, match="written back"):
                await opened(client, tenant, key)
            with pytest.raises(Altered):
                await client.control.resume(tenant, reason=WHY)
            with pytest.raises(Altered):
                await client.tenant(tenant)
    with pytest.raises(WrongState, match=f"revision {revision}"):
        await two.other.control.mend(tenant, revision - 1, reason=WHY)
    mended = await two.other.control.mend(tenant, revision, reason=WHY)
    assert (mended.state, mended.revision) == ("suspended", revision + 4)
    with pytest.raises(WrongState, match="nothing to mend"):
        await two.one.control.mend(tenant, revision, reason=WHY)
    await two.other.control.resume(tenant, reason=WHY)
    assert await opened(two.one, tenant, key) == key.dek


LIMITED = f"""
[[rule]]
name = "gateways"
effect = "allow"
callers = ["dns:{GATEWAY_NAME}"]
tenants = ["*"]
operations = ["create-tenant", "data-keys", "unwrap", "rewrap", "tenant-status", "rotate-kek"]
"""


async def test_a_gateway_changes_only_what_the_policy_names(site: Site, tenant: str) -> None:
    await asyncio.to_thread((site.folder / "policy.toml").write_text, LIMITED)
    async with (
        running(site.tls_settings()) as service,
        site.tls_client(service.url) as client,
    ):
        await client.create_tenant(tenant)
        key = await a_key(client, tenant)
        control = client.control
        await control.rotate_kek(tenant, key.kek, reason=WHY)
        await control.root(tenant)
        for denied in (
            control.suspend(tenant, reason=WHY),
            control.resume(tenant, reason=WHY),
            control.retire_kek(tenant, key.kek, reason=WHY),
            control.rotate_root(tenant, reason=WHY),
            control.rewrap_root(tenant, reason=WHY),
            control.move(tenant, "business", OWN, reason=WHY),
            control.settings(tenant, cache_ttl=1.0, reason=WHY),
            control.destroy_root(tenant, "", reason=WHY),
            control.rotate_shared(1, reason=WHY),
            control.retire_shared(1, reason=WHY),
        ):
            with pytest.raises(Denied):
                await denied
        assert await opened(client, tenant, key) == key.dek
    lines = (await asyncio.to_thread((site.folder / "audit.jsonl").read_text)).splitlines()
    records = [json.loads(line) for line in lines]
    denied_ones = [r["operation"] for r in records if r["outcome"] == "denied"]
    assert len(denied_ones) == 10
    assert {r["reason"] for r in records if r["operation"] == "rotate-kek"} == {"because"}


ROUTES = [
    "kek/rotate",
    "kek/retire",
    "root/rotate",
    "root/rewrap",
    "root/destroy",
    "move",
    "settings",
    "suspend",
    "resume",
    "mend",
]


async def test_every_route_checks_what_it_is_sent(site: Site) -> None:
    tenant, headers = secrets.token_hex(16), {"Authorization": f"Bearer {site.token}"}
    async with (
        running(site.settings()) as service,
        aiohttp.ClientSession(service.url, headers=headers) as session,
    ):
        places = [f"/v1/tenants/{tenant}/{route}" for route in ROUTES]
        for place in (*places, "/v1/root/rotate", "/v1/root/retire"):
            for body in (b"", b"{", b"[]", b'{"reason": ""}', b'{"reason": "r", "more": 1}'):
                async with session.post(place, data=body) as answer:
                    assert (answer.status, (await answer.json())["type"][-7:]) == (400, "invalid")
        for route in ROUTES:
            async with session.post(f"/v1/tenants/x/{route}", data=b"{}") as answer:
                assert answer.status == 400
    text = await asyncio.to_thread((site.folder / "audit.jsonl").read_text)
    records = [json.loads(line) for line in text.splitlines()]
    assert len(records) == 5 * (len(ROUTES) + 2) + len(ROUTES)
    assert all(record["operation"] for record in records)
