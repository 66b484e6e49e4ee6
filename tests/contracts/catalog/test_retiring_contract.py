"""Nothing comes under a KEK that is being retired: no upload, no rewrap, no reseal; on both databases."""

import asyncio
from dataclasses import replace

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import NotFound, UploadLost
from gateway.model import new_id
from gateway.ports import Rewrapped
from tests.contracts.catalog.samples import (
    ANY,
    START,
    STORED,
    at,
    kek_of,
    new_upload,
    put,
    version_of,
)


async def _retires(catalog: SqlCatalog, tenant: str) -> bool:
    await catalog.wraps.retiring(tenant, kek_of(tenant))
    return not await catalog.wraps.uses(tenant)


async def test_an_upload_under_it_is_lost_and_others_commit(
    catalog: SqlCatalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    for _ in range(2):
        assert await _retires(catalog, tenant)

    with pytest.raises(UploadLost, match="retired"):
        await catalog.commit(version, STORED, ANY, None)

    assert not await catalog.committed(upload.id)
    await catalog.commit(replace(version, kek=kek_of(tenant, 2)), STORED, ANY, None)
    (use,) = await catalog.wraps.uses(tenant)
    assert use.kek == kek_of(tenant, 2)


async def test_nothing_is_rewrapped_or_resealed_to_it(catalog: SqlCatalog, tenant: str) -> None:
    older = await put(catalog, tenant, "a")
    other = await put(catalog, tenant, "b")
    new, third = kek_of(tenant, 2), kek_of(tenant, 3)
    await catalog.wraps.retiring(tenant, new)

    changed = await catalog.wraps.rewrap(
        [
            Rewrapped(older.id, older.blob, older.kek, new, b"to it"),
            Rewrapped(other.id, other.blob, other.kek, third, b"to another"),
        ]
    )

    assert changed == {other.id}
    assert (await catalog.find(tenant, "a")).version == older
    assert not await catalog.wraps.intend(older, new_id(), new)
    assert await catalog.wraps.intend(older, new_id(), third)


async def test_uses_only_become_less_however_many_commit_at_once(
    catalog: SqlCatalog, tenant: str
) -> None:
    uploads = [new_upload(tenant) for _ in range(12)]
    begun = [(each, await catalog.begin(each, each.id)) for each in uploads]

    async def commit(number: int) -> bool:
        await asyncio.sleep(number / 500)
        try:
            await catalog.commit(version_of(*begun[number]), STORED, ANY, None)
        except UploadLost:
            return False
        return True

    async def retire() -> int:
        await asyncio.sleep(0.01)
        await catalog.wraps.retiring(tenant, kek_of(tenant))
        return sum(use.versions for use in await catalog.wraps.uses(tenant))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(commit(number)) for number in range(len(uploads))]
        retired = group.create_task(retire())

    assert retired.result() == sum(task.result() for task in tasks)


async def test_uploads_under_way_are_counted_by_when_they_began(
    catalog: SqlCatalog, tenant: str
) -> None:
    fenced = new_upload(tenant, started=START)
    for upload in (fenced, new_upload(tenant, started=START), new_upload(tenant, started=at(60))):
        await catalog.begin(upload, upload.id)
    await catalog.fence(fenced.id)

    assert await catalog.wraps.begun(tenant, START) == 0
    assert await catalog.wraps.begun(tenant, at(30)) == 1
    assert await catalog.wraps.begun(tenant, at(90)) == 2
    assert await catalog.wraps.begun(new_id(), at(90)) == 0


async def test_it_is_a_key_of_a_tenant_that_is_there(catalog: SqlCatalog) -> None:
    with pytest.raises(NotFound):
        await catalog.wraps.retiring(new_id(), kek_of(new_id()))
