"""An upload from intent to version, or to nothing, on both databases."""

from dataclasses import replace

import pytest

from gateway.errors import CatalogConflict, NotFound, PreconditionFailed, UploadLost
from gateway.model import Precondition, Upload, Version, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.samples import (
    ABSENT,
    ANY,
    LEASE,
    NO_TIME,
    PRESENT,
    START,
    STORED,
    FakeClock,
    at,
    new_operation,
    new_upload,
    put,
    version_of,
)


async def test_begin_makes_an_invisible_attachment(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    attachment = await catalog.begin(upload, "a")
    assert attachment.id == upload.attachment
    assert (attachment.tenant, attachment.reference) == (tenant, "a")
    assert (attachment.created, attachment.deleted) == (START, None)
    assert await catalog.list(tenant, "", None, 10) == []
    for ask in (catalog.find(tenant, "a"), catalog.find(tenant, "a", upload.id)):
        with pytest.raises(NotFound):
            await ask
    with pytest.raises(NotFound):
        await catalog.versions(tenant, "a")
    with pytest.raises(NotFound):
        await catalog.by_version(tenant, upload.id)
    with pytest.raises(NotFound):
        await catalog.trash(tenant, "a", ANY)


async def test_begin_finds_the_live_attachment(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    first = await put(catalog, tenant, "a")
    upload = new_upload(tenant, started=at(60))
    attachment = await catalog.begin(upload, "a")
    assert attachment.id == first.attachment
    assert attachment.created == START
    clock.now = at(61)
    assert [u.attachment for u in await catalog.stale(NO_TIME, 10)] == [first.attachment]


async def test_begin_after_the_trash_is_another_attachment(catalog: Catalog, tenant: str) -> None:
    first = await put(catalog, tenant, "a")
    await catalog.trash(tenant, "a", ANY)
    assert (await put(catalog, tenant, "a")).attachment != first.attachment


async def test_begin_for_an_unknown_tenant(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.begin(new_upload(new_id()), "a")


async def test_begin_twice_with_one_id(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    upload = new_upload(tenant)
    await catalog.begin(upload, "a")
    with pytest.raises(CatalogConflict):
        await catalog.begin(upload, "b")
    clock.now = at(1)
    assert len(await catalog.stale(NO_TIME, 10)) == 1


@pytest.mark.parametrize("reference", ["", "a\0b", "\udc80", "x" * 1025, "ü" * 513])
async def test_begin_refuses_a_reference_no_row_can_hold(
    catalog: Catalog, tenant: str, reference: str
) -> None:
    with pytest.raises(CatalogConflict):
        await catalog.begin(new_upload(tenant), reference)
    with pytest.raises(NotFound):
        await catalog.find(tenant, reference)


@pytest.mark.parametrize("reference", ["x" * 1024, "ü" * 512, "a/b c", "'; --", "\U0010ffff", "\t"])
async def test_reference_is_kept_as_it_is(catalog: Catalog, tenant: str, reference: str) -> None:
    await put(catalog, tenant, reference)
    assert (await catalog.find(tenant, reference)).attachment.reference == reference


async def test_commit_makes_the_version_current(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    found = await catalog.find(tenant, "a")
    assert found.version == version
    assert found.replicas == STORED
    assert found.current
    clock.now = at(1)
    assert await catalog.stale(NO_TIME, 10) == []


async def test_commit_without_replicas(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    await catalog.commit(version, {}, ANY, None)
    assert (await catalog.find(tenant, "a")).replicas == {}


async def test_commit_again_is_lost_but_committed(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    assert not await catalog.committed(upload.id)
    await catalog.commit(version, STORED, ANY, None)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, None)
    assert await catalog.committed(upload.id)
    assert len(await catalog.versions(tenant, "a")) == 1


@pytest.mark.parametrize("field", ["id", "tenant", "attachment", "blob"])
async def test_commit_of_what_was_never_begun(catalog: Catalog, tenant: str, field: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    with pytest.raises(UploadLost):
        await catalog.commit(_with(version, field, new_id()), STORED, ANY, None)
    await catalog.commit(version, STORED, ANY, None)


async def test_commit_into_the_trash(catalog: Catalog, tenant: str) -> None:
    await put(catalog, tenant, "a")
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    await catalog.trash(tenant, "a", ANY)
    with pytest.raises(NotFound):
        await catalog.commit(version, STORED, ANY, None)
    assert not await catalog.committed(upload.id)


async def test_if_none_match_on_a_new_attachment(catalog: Catalog, tenant: str) -> None:
    await put(catalog, tenant, "a", ABSENT)
    with pytest.raises(PreconditionFailed):
        await put(catalog, tenant, "a", ABSENT)
    await put(catalog, tenant, "a", PRESENT)
    assert len(await catalog.versions(tenant, "a")) == 2


async def test_if_match_on_a_new_attachment(catalog: Catalog, tenant: str) -> None:
    for precondition in (PRESENT, Precondition(versions=frozenset({new_id()}))):
        with pytest.raises(PreconditionFailed):
            await put(catalog, tenant, "a", precondition)


async def test_if_match_names_the_current_version(catalog: Catalog, tenant: str) -> None:
    first = await put(catalog, tenant, "a")
    naming_it = Precondition(versions=frozenset({first.id, new_id()}))
    second = await put(catalog, tenant, "a", naming_it)
    with pytest.raises(PreconditionFailed):
        await put(catalog, tenant, "a", naming_it)
    assert (await catalog.find(tenant, "a")).version == second


async def test_failed_precondition_leaves_the_upload_open(catalog: Catalog, tenant: str) -> None:
    await put(catalog, tenant, "a")
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    with pytest.raises(PreconditionFailed):
        await catalog.commit(version, STORED, ABSENT, None)
    await catalog.commit(version, STORED, PRESENT, None)


async def test_fence_stops_a_commit(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    assert await catalog.fence(upload.id)
    assert await catalog.fence(upload.id)
    with pytest.raises(UploadLost):
        await catalog.commit(version, STORED, ANY, None)
    assert not await catalog.committed(upload.id)
    assert [u.id for u in await catalog.stale(NO_TIME, 10)] == [upload.id]


async def test_fence_tells_of_a_commit(catalog: Catalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    assert not await catalog.fence(version.id)
    assert (await catalog.find(tenant, "a")).version == version
    assert await catalog.fence(new_id())  # what never was cannot commit


async def test_stale_fences_what_stopped_beating(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    old, new = new_upload(tenant), new_upload(tenant)
    versions = [version_of(u, await catalog.begin(u, u.id)) for u in (old, new)]
    clock.now = at(60)
    await catalog.touch([new.id, new_id()])
    assert await catalog.stale(NO_TIME, 10) == [old]
    await catalog.touch([old.id])  # too late
    assert await catalog.stale(NO_TIME, 10) == [old]
    with pytest.raises(UploadLost):
        await catalog.commit(versions[0], STORED, ANY, None)
    await catalog.commit(versions[1], STORED, ANY, None)
    clock.now = at(99)
    assert await catalog.stale(NO_TIME, 10) == [old]


async def test_stale_takes_the_oldest_first(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    uploads = [new_upload(tenant, started=at(n)) for n in (3, 1, 2)]
    for upload in uploads:
        clock.now = upload.started
        await catalog.begin(upload, upload.id)
    clock.now = at(9)
    assert await catalog.stale(NO_TIME, 2) == [uploads[1], uploads[2]]
    await catalog.forget(uploads[1].id)
    assert await catalog.stale(NO_TIME, 2) == [uploads[2], uploads[0]]


async def test_touch_of_nothing(catalog: Catalog) -> None:
    await catalog.touch([])


async def test_forget_takes_the_empty_attachment_along(catalog: Catalog, tenant: str) -> None:
    first, second = new_upload(tenant), new_upload(tenant)
    for upload in (first, second):
        await catalog.begin(upload, "a")
    await catalog.forget(first.id)
    third = new_upload(tenant)
    assert (await catalog.begin(third, "a")).id == first.attachment  # the second needs it
    for upload in (second, third, third):
        await catalog.forget(upload.id)
    fourth = new_upload(tenant)
    assert (await catalog.begin(fourth, "a")).id == fourth.attachment


async def test_forget_keeps_versions_and_trash(catalog: Catalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    uploads = [new_upload(tenant) for _ in range(2)]
    for upload in uploads:
        await catalog.begin(upload, "a")
    await catalog.forget(uploads[0].id)
    await catalog.forget(version.id)
    assert (await catalog.find(tenant, "a")).version == version
    await catalog.trash(tenant, "a", ANY)
    await catalog.forget(uploads[1].id)
    assert (await catalog.by_version(tenant, version.id)).version == version


async def test_forget_takes_the_running_operation_along(catalog: Catalog, tenant: str) -> None:
    operation = new_operation(tenant)
    await catalog.claim(operation, LEASE)
    await catalog.begin(_as(new_upload(tenant), operation.upload), "a")
    await catalog.forget(operation.upload)
    again = new_operation(tenant)
    assert await catalog.claim(again, LEASE) == again


async def test_known_blobs(catalog: Catalog, tenant: str) -> None:
    committed = await put(catalog, tenant, "a")
    trashed = await put(catalog, tenant, "b")
    await catalog.trash(tenant, "b", ANY)
    running, fenced, forgotten = (new_upload(tenant) for _ in range(3))
    for upload in (running, fenced, forgotten):
        await catalog.begin(upload, upload.id)
    await catalog.fence(fenced.id)
    await catalog.forget(forgotten.id)
    known = {committed.blob, trashed.blob, running.blob, fenced.blob}
    assert await catalog.known([*known, forgotten.blob, new_id()]) == known
    assert await catalog.known([new_id()] * 1000) == frozenset()
    assert await catalog.known([]) == frozenset()


def _with(version: Version, field: str, value: str) -> Version:
    return replace(version, **{field: value})  # type: ignore[arg-type]  # all four are ids


def _as(upload: Upload, id_: str) -> Upload:
    return replace(upload, id=id_)


async def test_stale_goes_on_behind_a_page(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    uploads = [new_upload(tenant, started=at(second)) for second in (0, 0, 1, 2)]
    for number, upload in enumerate(uploads):
        clock.now = upload.started
        await catalog.begin(upload, f"r{number}")

    clock.now = at(9)
    first = await catalog.stale(NO_TIME, 2)
    second = await catalog.stale(NO_TIME, 2, first[-1])
    third = await catalog.stale(NO_TIME, 2, second[-1])

    assert {u.id for u in [*first, *second]} == {u.id for u in uploads}
    assert third == []


async def test_an_inline_body_comes_with_one_version_and_not_with_many(
    catalog: Catalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "r"))
    version = replace(version, body_size=0, inline=b"sealed" * 100)
    await catalog.commit(version, STORED, ANY, None)

    assert (await catalog.find(tenant, "r")).version == version
    assert (await catalog.find(tenant, "r", version.id)).version == version
    assert (await catalog.by_version(tenant, version.id)).version == version
    without = replace(version, inline=None)
    assert [found.version for found in await catalog.list(tenant, "", None, 9)] == [without]
    bare = replace(without, envelope=b"")
    assert [found.version for found in await catalog.versions(tenant, "r")] == [bare]
