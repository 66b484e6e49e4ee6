"""What every key store promises (keyservice.ports.KeyStore)."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable

import pytest

from keyservice.errors import Conflict, UnknownTenant
from keyservice.ports import KeyStore
from keyservice.records import OWN, KekState, KekVersion, TenantRecord, TenantState, Tier
from tests.contracts.keyservice.conftest import Pair


def new_record() -> TenantRecord:
    tenant = secrets.token_hex(16)
    keks = (
        KekVersion(f"{tenant}/1-aa", "wrapped:one", 1, KekState.RETIRED),
        KekVersion(f"{tenant}/2-bb", "wrapped:two", 1_700_000_000_000_001, KekState.CURRENT),
    )
    return TenantRecord(tenant, Tier.BUSINESS, TenantState.ACTIVE, 12.5, keks, OWN)


async def test_a_record_comes_back_as_it_was(store: KeyStore) -> None:
    record = new_record()
    version = await store.write(record, 0)
    held = await store.read(record.tenant)
    assert held.record == record
    assert held.version == version


async def test_another_instance_sees_it(again: Callable[[], Pair]) -> None:
    record = new_record()
    await again().store.write(record, 0)
    assert (await again().store.read(record.tenant)).record == record


async def test_a_tenant_nobody_created_is_unknown(store: KeyStore) -> None:
    with pytest.raises(UnknownTenant):
        await store.read(secrets.token_hex(16))


@pytest.mark.parametrize("tenant", ["", "..", "../secrets", "A" * 32, "0" * 31])
async def test_what_is_no_tenant_leads_nowhere(store: KeyStore, tenant: str) -> None:
    with pytest.raises(UnknownTenant):
        await store.read(tenant)


async def test_a_write_from_the_version_read_succeeds(store: KeyStore) -> None:
    record = new_record()
    first = await store.write(record, 0)
    suspended = dataclasses.replace(record, state=TenantState.SUSPENDED)
    second = await store.write(suspended, first)
    assert second > first
    assert (await store.read(record.tenant)).record == suspended


@pytest.mark.parametrize("wrong", [-1, 1, 7])
async def test_a_write_from_another_version_conflicts(store: KeyStore, wrong: int) -> None:
    record = new_record()
    first = await store.write(record, 0)
    with pytest.raises(Conflict):
        await store.write(dataclasses.replace(record, cache_ttl=1), first + wrong)
    assert (await store.read(record.tenant)).record == record


async def test_a_record_is_not_created_twice(store: KeyStore) -> None:
    record = new_record()
    await store.write(record, 0)
    with pytest.raises(Conflict):
        await store.write(record, 0)


async def test_an_update_of_nothing_conflicts(store: KeyStore) -> None:
    with pytest.raises(Conflict):
        await store.write(new_record(), 1)


async def test_of_many_writers_one_wins(again: Callable[[], Pair]) -> None:
    record = new_record()
    stores = [again().store, again().store]
    version = await stores[0].write(record, 0)
    attempts = [
        stores[number % 2].write(dataclasses.replace(record, cache_ttl=float(number)), version)
        for number in range(12)
    ]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    won = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    assert len(won) == 1
    assert all(isinstance(o, Conflict) for n, o in enumerate(outcomes) if n != won[0])
    assert (await stores[1].read(record.tenant)).record.cache_ttl == won[0]


async def test_tenants_are_apart(store: KeyStore) -> None:
    one, other = new_record(), new_record()
    await store.write(one, 0)
    await store.write(other, 0)
    assert (await store.read(one.tenant)).record == one


async def test_what_is_older_is_forgotten_and_the_newest_stays(store: KeyStore) -> None:
    record = new_record()
    version = 0
    for ttl in range(4):
        version = await store.write(dataclasses.replace(record, cache_ttl=float(ttl)), version)
    for before in (version - 1, version, version + 7, version):
        await store.forget(record.tenant, before)
        held = await store.read(record.tenant)
        assert (held.version, held.record.cache_ttl) == (version, 3.0)
    assert await store.write(record, version) > version
    with pytest.raises(UnknownTenant):
        await store.forget(secrets.token_hex(16), 1)


async def test_what_was_written_before_can_be_looked_at(store: KeyStore) -> None:
    record = new_record()
    first = await store.write(record, 0)
    assert await store.past(record.tenant, first) == record
    second = await store.write(dataclasses.replace(record, cache_ttl=1.0), first)
    assert await store.past(record.tenant, first) in {record, None}  # where it is kept
    newest = await store.past(record.tenant, second)
    assert newest is not None
    assert newest.cache_ttl == 1.0
    assert await store.past(record.tenant, second + 1) is None
    await store.forget(record.tenant, second)
    assert await store.past(record.tenant, first) is None


async def test_every_tenant_is_listed(store: KeyStore) -> None:
    assert list(await store.tenants()) == []
    records = [new_record() for _ in range(3)]
    for record in records:
        await store.write(record, 0)
    assert list(await store.tenants()) == sorted(record.tenant for record in records)


async def test_status_is_healthy_and_close_repeatable(store: KeyStore) -> None:
    await store.write(new_record(), 0)
    assert (await store.status()).healthy
    await store.close()
    await store.close()
