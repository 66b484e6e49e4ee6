"""Root and key store on a real Vault: what derivation, rotation and check-and-set promise."""

import asyncio
import secrets

import pytest

from keyservice.errors import CannotUnwrap, Conflict, Unavailable, UnknownTenant
from keyservice.records import (
    OWN,
    SHARED,
    KekState,
    KekVersion,
    RootRef,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.vault.root import VaultRoot
from keyservice.vault.store import VaultKeyStore
from tests.servers.prepared import PreparedVault

ROOTS = pytest.mark.parametrize("ref", [SHARED, OWN], ids=str)


def tenant() -> str:
    return secrets.token_hex(16)


def record(tenant_id: str, ttl: float = 60.0) -> TenantRecord:
    kek = KekVersion("k1", "vault:v1:AAAA", 1, KekState.CURRENT)
    return TenantRecord(tenant_id, Tier.STANDARD, TenantState.ACTIVE, ttl, (kek,), SHARED)


@ROOTS
async def test_a_kek_comes_back_for_its_tenant(root: VaultRoot, ref: RootRef) -> None:
    one, kek = tenant(), secrets.token_bytes(32)
    await root.create(one, ref)
    wrapped = await root.wrap(one, ref, kek)
    assert wrapped != await root.wrap(one, ref, kek)
    assert await root.unwrap(one, ref, wrapped) == kek


@ROOTS
async def test_another_tenant_opens_nothing(root: VaultRoot, ref: RootRef) -> None:
    one, other = tenant(), tenant()
    await root.create(one, ref)
    await root.create(other, ref)
    wrapped = await root.wrap(one, ref, bytes(32))
    with pytest.raises(CannotUnwrap):
        await root.unwrap(other, ref, wrapped)


async def test_tiers_are_apart(root: VaultRoot) -> None:
    one = tenant()
    await root.create(one, OWN)
    for here, there in ((SHARED, OWN), (OWN, SHARED)):
        with pytest.raises(CannotUnwrap):
            await root.unwrap(one, there, await root.wrap(one, here, bytes(32)))


@pytest.mark.parametrize("text", ["", "junk", "vault:v1:", "vault:v9:AAAA", "local:v1:AAAA"])
async def test_damaged_text_does_not_open(root: VaultRoot, text: str) -> None:
    with pytest.raises(CannotUnwrap):
        await root.unwrap(tenant(), SHARED, text)


async def test_a_business_tenant_has_to_be_created(root: VaultRoot) -> None:
    one = tenant()
    with pytest.raises(UnknownTenant):
        await root.wrap(one, OWN, bytes(32))
    with pytest.raises(UnknownTenant):
        await root.unwrap(one, OWN, "vault:v1:AAAA")


async def test_creating_twice_keeps_the_key(root: VaultRoot) -> None:
    one = tenant()
    async with asyncio.TaskGroup() as both:
        both.create_task(root.create(one, OWN))
        both.create_task(root.create(one, OWN))
    wrapped = await root.wrap(one, OWN, bytes(32))
    await root.create(one, OWN)
    assert await root.unwrap(one, OWN, wrapped) == bytes(32)


@pytest.mark.parametrize("name", ["../standard", "A" * 32, "", "0" * 31])
async def test_only_tenant_ids_become_paths(
    root: VaultRoot, store: VaultKeyStore, name: str
) -> None:
    with pytest.raises(UnknownTenant):
        await root.wrap(name, OWN, bytes(32))
    with pytest.raises(UnknownTenant):
        await store.read(name)


@ROOTS
async def test_rotation_keeps_old_text_open_until_its_version_is_given_up(
    prepared: PreparedVault, root: VaultRoot, ref: RootRef
) -> None:
    one, kek = tenant(), secrets.token_bytes(32)
    await root.create(one, ref)
    old = await root.wrap(one, ref, kek)
    name = "standard" if ref is SHARED else f"tenant-{one}"
    mount = prepared.setup.transit_mount

    def as_operator(action: str, **settings: object) -> None:
        with prepared.server.client() as client:
            client.write_data(f"{mount}/keys/{name}/{action}", data=settings)

    await asyncio.to_thread(as_operator, "rotate")
    assert await root.unwrap(one, ref, old) == kek
    new = await root.wrap(one, ref, kek)
    assert new.startswith("vault:v2:")
    await asyncio.to_thread(as_operator, "config", min_decryption_version=2)
    with pytest.raises(CannotUnwrap):
        await root.unwrap(one, ref, old)
    assert await root.unwrap(one, ref, new) == kek


async def test_records_are_written_at_the_expected_version_only(store: VaultKeyStore) -> None:
    one = tenant()
    with pytest.raises(UnknownTenant):
        await store.read(one)
    assert await store.write(record(one), 0) == 1
    with pytest.raises(Conflict):
        await store.write(record(one, ttl=1.0), 0)
    assert await store.write(record(one, ttl=2.0), 1) == 2
    held = await store.read(one)
    assert (held.version, held.record) == (2, record(one, ttl=2.0))


async def test_of_many_writers_one_wins(store: VaultKeyStore) -> None:
    one = tenant()
    outcomes = await asyncio.gather(
        *(store.write(record(one, ttl=float(i)), 0) for i in range(20)), return_exceptions=True
    )
    won = [i for i, outcome in enumerate(outcomes) if outcome == 1]
    assert len(won) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
    assert (await store.read(one)).record.cache_ttl == float(won[0])


async def test_a_deleted_or_foreign_record_is_not_an_unknown_tenant(
    prepared: PreparedVault, store: VaultKeyStore
) -> None:
    one, other = tenant(), tenant()
    await store.write(record(one), 0)
    mount = prepared.setup.kv_mount

    def as_operator() -> None:
        with prepared.server.client() as client:
            kv = client.secrets.kv.v2
            kv.delete_latest_version_of_secret(f"tenants/{one}", mount_point=mount)
            client.write_data(
                f"{mount}/data/tenants/{other}",
                data={"options": {"cas": 0}, "data": {"format": 1, "keks": "?"}},
            )

    await asyncio.to_thread(as_operator)
    with pytest.raises(Unavailable, match="undelete"):
        await store.read(one)
    with pytest.raises(Conflict):
        await store.write(record(one), 0)
    with pytest.raises(Unavailable, match="damaged"):
        await store.read(other)


async def test_missing_mounts_are_said_in_the_status(prepared: PreparedVault) -> None:
    session = prepared.session()
    root = VaultRoot(session, mount="nowhere")
    store = VaultKeyStore(session, mount="nowhere")
    try:
        assert not (await root.status()).healthy
        assert not (await store.status()).healthy
        with pytest.raises(Unavailable):
            await store.read(tenant())
        with pytest.raises(Unavailable):
            await root.wrap(tenant(), SHARED, bytes(32))
        assert (await prepared.root(session).status()).healthy
        assert (await prepared.store(session).status()).healthy
    finally:
        await session.close()


async def test_a_forgotten_version_is_destroyed_in_vault(
    prepared: PreparedVault, store: VaultKeyStore
) -> None:
    one = tenant()
    version = 0
    for ttl in range(3):
        version = await store.write(record(one, float(ttl)), version)
    await store.forget(one, version)

    def look() -> dict[str, bool]:
        with prepared.server.client() as client:
            answer = client.read(f"{prepared.setup.kv_mount}/metadata/tenants/{one}")
            return {key: found["destroyed"] for key, found in answer["data"]["versions"].items()}

    assert await asyncio.to_thread(look) == {"1": True, "2": True, "3": False}
