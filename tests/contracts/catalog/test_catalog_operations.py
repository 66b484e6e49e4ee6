"""Idempotency keys, on both databases."""

from dataclasses import replace

import pytest

from gateway.errors import NotFound, UploadLost
from gateway.model import Operation, Tenant, Version, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.samples import (
    ANY,
    START,
    STORED,
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
    assert await catalog.claim(operation, START, 60) == operation


async def test_held_key_names_its_holder(catalog: Catalog, tenant: str) -> None:
    holder = new_operation(tenant)
    await catalog.claim(holder, START, 60)
    other = replace(new_operation(tenant), fingerprint=b"another payload")
    assert await catalog.claim(other, at(59), 60) == holder


async def test_claim_again_after_a_lost_answer(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, START, 60)
    await _begun(catalog, operation)
    assert await catalog.claim(operation, at(999), 60) == operation
    assert await catalog.stale(START, 9) == []  # and did not fence itself


async def test_keys_are_a_tenants_own(catalog: Catalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    for operation in (new_operation(tenant), new_operation(other.id)):
        assert await catalog.claim(operation, START, 60) == operation


async def test_claim_for_an_unknown_tenant(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.claim(new_operation(new_id()), START, 60)


async def test_commit_records_the_outcome(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, START, 60)
    version = await _begun(catalog, operation)
    await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    done = replace(operation, version=version.id)
    assert await catalog.claim(new_operation(tenant), at(10**6), 60) == done
    assert await catalog.claim(operation, at(10**6), 60) == done


async def test_outcome_stays(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, START, 60)
    version = await _begun(catalog, operation)
    await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    await catalog.forget(operation.upload)
    await catalog.release(tenant, operation.key_hash, operation.upload)
    await catalog.touch([operation.upload], at(5))
    assert (await catalog.claim(new_operation(tenant), START, 60)).version == version.id


async def test_expired_lease_is_taken_over(catalog: Catalog, tenant: str) -> None:
    dead = new_operation(tenant)
    await catalog.claim(dead, START, 60)
    version = await _begun(catalog, dead)
    heir = replace(new_operation(tenant), fingerprint=b"another payload")
    assert await catalog.claim(heir, at(60), 60) == heir
    assert [u.id for u in await catalog.stale(START, 9)] == [dead.upload]
    for operation in (None, (tenant, dead.key_hash)):
        with pytest.raises(UploadLost):
            await catalog.commit(version, STORED, ANY, operation)
    await catalog.forget(dead.upload)
    assert await catalog.claim(new_operation(tenant), at(61), 60) == heir


async def test_late_begin_of_a_lost_claim_cannot_commit(catalog: Catalog, tenant: str) -> None:
    slow, heir = new_operation(tenant), new_operation(tenant)
    await catalog.claim(slow, START, 60)
    await catalog.claim(heir, at(60), 60)
    version = await _begun(catalog, slow)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, (tenant, slow.key_hash))


async def test_heartbeat_keeps_the_lease(catalog: Catalog, tenant: str) -> None:
    holder = new_operation(tenant)
    await catalog.claim(holder, START, 60)
    await catalog.touch([holder.upload], at(30))
    assert await catalog.claim(new_operation(tenant), at(89), 60) == holder
    heir = new_operation(tenant)
    assert await catalog.claim(heir, at(90), 60) == heir


async def test_release_frees_the_key(catalog: Catalog, tenant: str) -> None:
    holder, other = new_operation(tenant), new_operation(tenant)
    await catalog.claim(holder, START, 60)
    await catalog.release(tenant, holder.key_hash, other.upload)  # not its own
    assert await catalog.claim(other, START, 60) == holder
    for _ in range(2):
        await catalog.release(tenant, holder.key_hash, holder.upload)
    assert await catalog.claim(other, START, 60) == other


async def test_commit_needs_the_claim(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    version = await _begun(catalog, operation)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    await catalog.commit(version, STORED, ANY, None)


async def test_ended_keys_expire_and_running_ones_do_not(catalog: Catalog, tenant: str) -> None:
    ended, running = new_operation(tenant), new_operation(tenant, key=b"r" * 32)
    await catalog.claim(ended, START, 60)
    await catalog.claim(running, START, 60)
    upload = replace(new_upload(tenant), id=ended.upload)
    version = version_of(upload, await catalog.begin(upload, "r"))
    await catalog.commit(version, STORED, ANY, (tenant, ended.key_hash))

    assert await catalog.expire(START) == 0
    assert await catalog.expire(at(1)) == 1

    again = replace(new_operation(tenant), fingerprint=b"other" + bytes(27))
    assert await catalog.claim(again, at(2), 60) == again
    assert (await catalog.claim(replace(running, upload="0" * 32), at(2), 60)) == running
