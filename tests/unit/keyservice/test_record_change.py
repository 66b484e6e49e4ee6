"""The one way a record is changed: decided upon the newest, written once, and nothing cached from before."""

import dataclasses

import pytest

from keyservice.desk import change
from keyservice.errors import Conflict, KeyServiceError, Unavailable
from keyservice.records import RootRef, TenantRecord, TenantState
from tests.unit.keyservice.fakes import FakeStore
from tests.unit.keyservice.lifecycle_bench import CALL, A, Instance, Site


class Racing(FakeStore):
    """A key store in which somebody else is faster, so many times; or loses its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.faster = 0
        self.lost = False

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        if expected_version and self.faster:
            self.faster -= 1
            raise Conflict("somebody was faster")
        version = await super().write(record, expected_version)
        if expected_version and self.lost:
            raise Unavailable("nobody knows")
        return version


@pytest.fixture
def site() -> Site:
    site = Site()
    site.store = Racing()
    site.one, site.other = site.instance(), site.instance()
    return site


def racing(site: Site) -> Racing:
    assert isinstance(site.store, Racing)
    return site.store


async def quicker(record: TenantRecord) -> TenantRecord:
    return dataclasses.replace(record, cache_ttl=record.cache_ttl / 2)


async def test_who_was_slower_decides_anew(site: Site) -> None:
    await site.one.create(A)
    racing(site).faster = change.ATTEMPTS - 1
    record = await site.one.changes.make(A, quicker)
    assert (record.cache_ttl, record.revision) == (30.0, 2)
    assert await site.one.record(A) == record
    racing(site).faster = change.ATTEMPTS
    with pytest.raises(Unavailable, match="keeps changing"):
        await site.one.changes.make(A, quicker)
    assert await site.one.record(A) == record


async def test_what_nobody_knows_the_end_of_is_read_again(site: Site) -> None:
    await site.one.create(A)
    await site.one.key(A)
    racing(site).lost = True
    with pytest.raises(Unavailable):
        await site.one.changes.make(A, quicker)
    reads = site.store.reads
    found = await site.one.service.data_keys(CALL, A, [b"c"])
    assert (found.revision, found.fresh) == (2, 30.0)
    assert site.store.reads == reads + 1


async def test_nothing_to_change_writes_nothing(site: Site) -> None:
    before = await site.one.create(A)

    async def as_it_is(record: TenantRecord) -> TenantRecord:
        return record

    for proven in (True, False):
        assert await site.one.changes.make(A, as_it_is, proven=proven) == before
    assert await site.one.record(A) == before


async def test_a_record_that_nobody_could_read_is_not_written(site: Site) -> None:
    before = await site.one.create(A)

    async def spoil(record: TenantRecord) -> TenantRecord:
        left = (RootRef(record.root.custody, "../x"),)
        return dataclasses.replace(record, left=left, state=TenantState.SUSPENDED)

    with pytest.raises(KeyServiceError, match="readable"):
        await site.one.changes.make(A, spoil)
    assert await site.one.record(A) == before


async def test_a_read_under_way_is_not_kept_after_a_change(site: Site) -> None:
    await site.one.create(A)
    held = await site.store.read(A)
    instance: Instance = site.one
    read = site.store.read

    async def late(tenant: str) -> object:
        """Answer with what was there before, after the change was made."""
        site.store.read = read  # type: ignore[method-assign]
        await instance.changes.make(tenant, quicker)
        return held

    site.store.read = late  # type: ignore[method-assign, assignment]
    assert (await instance.service.data_keys(CALL, A, [b"c"])).revision == 1
    assert (await instance.service.data_keys(CALL, A, [b"c"])).revision == 2
