"""Idempotency keys, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.catalog import open_catalog
from gateway.errors import NotFound, UploadLost
from gateway.model import Operation, Tenant, Version, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import (
    ANY,
    LEASE,
    NO_TIME,
    START,
    STORED,
    FakeClock,
    at,
    new_operation,
    new_upload,
    version_of,
)


async def _begun(catalog: Catalog, operation: Operation) -> Version:
    upload = replace(new_upload(operation.tenant), id=operation.upload)
    return version_of(upload, await catalog.begin(upload, upload.id))


async def test_free_key_is_claimed(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    assert await catalog.claim(operation, LEASE) == operation


async def test_held_key_names_its_holder(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    holder = new_operation(tenant)
    await catalog.claim(holder, LEASE)
    other = replace(new_operation(tenant), fingerprint=b"another payload")
    clock.now = at(59)
    assert await catalog.claim(other, LEASE) == holder


async def test_claim_again_after_a_lost_answer(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, LEASE)
    await _begun(catalog, operation)
    clock.now = at(999)
    assert await catalog.claim(operation, LEASE) == operation
    clock.now = START
    assert await catalog.stale(NO_TIME, 9) == []  # and did not fence itself


async def test_keys_are_a_tenants_own(catalog: Catalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    for operation in (new_operation(tenant), new_operation(other.id)):
        assert await catalog.claim(operation, LEASE) == operation


async def test_claim_for_an_unknown_tenant(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.claim(new_operation(new_id()), LEASE)


async def test_commit_records_the_outcome(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, LEASE)
    version = await _begun(catalog, operation)
    await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    done = replace(operation, version=version.id)
    clock.now = at(10**6)
    assert await catalog.claim(new_operation(tenant), LEASE) == done
    assert await catalog.claim(operation, LEASE) == done


async def test_outcome_stays(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, LEASE)
    version = await _begun(catalog, operation)
    await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    await catalog.forget(operation.upload)
    await catalog.release(tenant, operation.key_hash, operation.upload)
    clock.now = at(5)
    await catalog.touch([operation.upload])
    clock.now = START
    assert (await catalog.claim(new_operation(tenant), LEASE)).version == version.id


async def test_expired_lease_is_taken_over(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    dead = new_operation(tenant)
    await catalog.claim(dead, LEASE)
    version = await _begun(catalog, dead)
    heir = replace(new_operation(tenant), fingerprint=b"another payload")
    clock.now = at(60)
    assert await catalog.claim(heir, LEASE) == heir
    clock.now = START
    assert [u.id for u in await catalog.stale(NO_TIME, 9)] == [dead.upload]
    for operation in (None, (tenant, dead.key_hash)):
        with pytest.raises(UploadLost):
            await catalog.commit(version, STORED, ANY, operation)
    await catalog.forget(dead.upload)
    clock.now = at(61)
    assert await catalog.claim(new_operation(tenant), LEASE) == heir


async def test_late_begin_of_a_lost_claim_cannot_commit(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    slow, heir = new_operation(tenant), new_operation(tenant)
    await catalog.claim(slow, LEASE)
    clock.now = at(60)
    await catalog.claim(heir, LEASE)
    version = await _begun(catalog, slow)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, (tenant, slow.key_hash))


async def test_heartbeat_keeps_the_lease(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    holder = new_operation(tenant)
    await catalog.claim(holder, LEASE)
    clock.now = at(30)
    await catalog.touch([holder.upload])
    clock.now = at(89)
    assert await catalog.claim(new_operation(tenant), LEASE) == holder
    heir = new_operation(tenant)
    clock.now = at(90)
    assert await catalog.claim(heir, LEASE) == heir


async def test_release_frees_the_key(catalog: Catalog, tenant: str) -> None:
    holder, other = new_operation(tenant), new_operation(tenant)
    await catalog.claim(holder, LEASE)
    await catalog.release(tenant, holder.key_hash, other.upload)  # not its own
    assert await catalog.claim(other, LEASE) == holder
    for _ in range(2):
        await catalog.release(tenant, holder.key_hash, holder.upload)
    assert await catalog.claim(other, LEASE) == other


async def test_commit_needs_the_claim(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    version = await _begun(catalog, operation)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    await catalog.commit(version, STORED, ANY, None)


async def test_ended_keys_expire_and_running_ones_do_not(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    ended, running = new_operation(tenant), new_operation(tenant, key=b"r" * 32)
    await catalog.claim(ended, LEASE)
    await catalog.claim(running, LEASE)
    upload = replace(new_upload(tenant), id=ended.upload)
    version = version_of(upload, await catalog.begin(upload, "r"))
    await catalog.commit(version, STORED, ANY, (tenant, ended.key_hash))

    assert await catalog.expire(NO_TIME) == 0
    clock.now = at(1)
    assert await catalog.expire(NO_TIME) == 1

    again = replace(new_operation(tenant), fingerprint=b"other" + bytes(27))
    clock.now = at(2)
    assert await catalog.claim(again, LEASE) == again
    assert (await catalog.claim(replace(running, upload="0" * 32), LEASE)) == running


async def test_the_databases_clock_counts_and_not_the_callers(url: str, tenant: str) -> None:
    """A gateway whose clock is far ahead takes no live upload for a dead one."""
    catalog = await open_catalog(url, patience=PATIENCE)
    try:
        ahead = datetime.now(UTC) + timedelta(days=1)
        for started in (ahead, ahead - timedelta(days=2)):
            operation = new_operation(tenant, key=started.isoformat().encode())
            upload = replace(new_upload(tenant, started=started), id=operation.upload)
            await catalog.claim(operation, LEASE)
            await catalog.begin(upload, upload.id)
            await catalog.touch([upload.id])
            assert await catalog.claim(replace(operation, upload=new_id()), LEASE) == operation
        assert await catalog.stale(LEASE, 9) == []
        found = await catalog.stale(NO_TIME, 9)
        assert len(found) == 2
        assert all(abs(upload.touched - datetime.now(UTC)) < LEASE for upload in found)
        assert await catalog.expire(NO_TIME) == 0
    finally:
        await catalog.close()
