"""Workers that meet: every contest has exactly one winner, on both databases.

Each worker has a catalog of its own, so SQLite's lock and PostgreSQL's rows decide, not our tasks.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.catalog import SqlCatalog, open_catalog
from gateway.errors import GatewayError, NotFound, PreconditionFailed, UploadLost
from gateway.model import Attachment, Precondition, Version, new_id
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import (
    ABSENT,
    ANY,
    LEASE,
    NO_TIME,
    STORED,
    FakeClock,
    new_operation,
    new_upload,
    put,
    version_of,
)

WORKERS = 4
ROUNDS = 8


@pytest.fixture
async def workers(url: str, tenant: str, clock: FakeClock) -> AsyncIterator[list[SqlCatalog]]:
    """Give catalogs that share nothing but the database."""
    del tenant  # made before they open
    workers = [await open_catalog(url, patience=PATIENCE, clock=clock) for _ in range(WORKERS)]
    yield workers
    for worker in workers:
        await worker.close()


async def test_begin_against_begin(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS):
        uploads = [new_upload(tenant) for _ in workers]
        begun = await _at_once(
            [partial(w.begin, u, f"{number}") for w, u in zip(workers, uploads, strict=True)]
        )
        attachments = _all_went_well(begun)
        assert len({a.id for a in attachments}) == 1
        versions = [version_of(u, a) for u, a in zip(uploads, attachments, strict=True)]
        committed = await _at_once(
            [
                partial(w.commit, v, STORED, ANY, None)
                for w, v in zip(workers, versions, strict=True)
            ]
        )
        _all_went_well(committed)
        listed = await workers[0].versions(tenant, f"{number}")
        assert {f.version.id for f in listed} == {u.id for u in uploads}
        assert [f.current for f in listed] == [True] + [False] * (WORKERS - 1)


async def test_commit_against_commit(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS):
        versions = [await _begun(w, tenant, f"{number}") for w in workers]
        results = await _at_once(
            [
                partial(w.commit, v, STORED, ABSENT, None)
                for w, v in zip(workers, versions, strict=True)
            ]
        )
        assert results.count(None) == 1
        assert sum(isinstance(r, PreconditionFailed) for r in results) == WORKERS - 1
        found = await workers[0].find(tenant, f"{number}")
        assert found.version == versions[results.index(None)]


async def test_if_match_against_if_match(workers: list[SqlCatalog], tenant: str) -> None:
    current = await put(workers[0], tenant, "a")
    for _ in range(ROUNDS):
        precondition = Precondition(versions=frozenset({current.id}))
        versions = [await _begun(w, tenant, "a") for w in workers]
        results = await _at_once(
            [
                partial(w.commit, v, STORED, precondition, None)
                for w, v in zip(workers, versions, strict=True)
            ]
        )
        assert results.count(None) == 1
        assert sum(isinstance(r, PreconditionFailed) for r in results) == WORKERS - 1
        current = versions[results.index(None)]


async def test_commit_against_stale(
    workers: list[SqlCatalog], tenant: str, clock: FakeClock
) -> None:
    for number in range(ROUNDS * 2):
        version = await _begun(workers[0], tenant, f"{number}")
        clock.now += LEASE
        committed, *reaped = await _at_once(
            [
                partial(workers[0].commit, version, STORED, ANY, None),
                *(partial(w.stale, NO_TIME, 99) for w in workers[1:]),
            ]
        )
        fenced = {u.id for uploads in _all_went_well(reaped) for u in uploads}
        assert (committed is None) != (version.id in fenced)
        assert committed is None or isinstance(committed, UploadLost)
        assert await workers[0].committed(version.id) == (committed is None)
        await workers[0].forget(version.id)


async def test_commit_against_fence(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS * 2):
        version = await _begun(workers[0], tenant, f"{number}")
        committed, *fenced = await _at_once(
            [
                partial(workers[0].commit, version, STORED, ANY, None),
                *(partial(w.fence, version.id) for w in workers[1:]),
            ]
        )
        assert fenced == [committed is not None] * (WORKERS - 1)
        assert await workers[0].committed(version.id) == (committed is None)
        assert version.blob in await workers[0].known([version.blob])


async def test_commit_against_trash(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS):
        await put(workers[0], tenant, f"{number}")
        version = await _begun(workers[0], tenant, f"{number}")
        committed, *trashed = await _at_once(
            [
                partial(workers[0].commit, version, STORED, ANY, None),
                *(partial(w.trash, tenant, f"{number}", ANY) for w in workers[1:]),
            ]
        )
        assert sum(isinstance(t, NotFound) for t in trashed) == WORKERS - 2
        assert committed is None or isinstance(committed, NotFound)


async def test_commit_against_a_look_for_orphans(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS):
        version = await _begun(workers[0], tenant, f"{number}")
        committed, *known = await _at_once(
            [
                partial(workers[0].commit, version, STORED, ANY, None),
                *(partial(w.known, [version.blob]) for w in workers[1:]),
            ]
        )
        assert committed is None
        assert known == [{version.blob}] * (WORKERS - 1)


async def test_claim_against_claim(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS):
        await _claim_at_once(workers, tenant, number)


async def test_takeover_against_takeover(
    workers: list[SqlCatalog], tenant: str, clock: FakeClock
) -> None:
    for number in range(ROUNDS):
        dead = new_operation(tenant, key=bytes([number]) * 32)
        await workers[0].claim(dead, LEASE)
        clock.now += LEASE
        await _claim_at_once(workers, tenant, number)


async def test_takeover_against_commit(
    workers: list[SqlCatalog], tenant: str, clock: FakeClock
) -> None:
    for number in range(ROUNDS * 2):
        slow = new_operation(tenant, key=bytes([number]) * 32)
        await workers[0].claim(slow, LEASE)
        version = await _begun(workers[0], tenant, f"{number}", slow.upload)
        heir = new_operation(tenant, key=slow.key_hash)
        clock.now += LEASE
        committed, claimed = await _at_once(
            [
                partial(workers[0].commit, version, STORED, ANY, (tenant, slow.key_hash)),
                partial(workers[1].claim, heir, LEASE),
            ]
        )
        if committed is None:
            assert claimed == replace(slow, version=version.id)
        else:
            assert isinstance(committed, UploadLost)
            assert claimed == heir


async def test_begin_against_forget(workers: list[SqlCatalog], tenant: str) -> None:
    for number in range(ROUNDS * 2):
        left = await _begun(workers[0], tenant, f"{number}")
        upload = new_upload(tenant)
        begun, forgotten = await _at_once(
            [
                partial(workers[0].begin, upload, f"{number}"),
                partial(workers[1].forget, left.id),
            ]
        )
        assert forgotten is None
        assert isinstance(begun, Attachment)
        await workers[2].commit(version_of(upload, begun), STORED, ABSENT, None)


async def test_heartbeats_against_everything(workers: list[SqlCatalog], tenant: str) -> None:
    operations = [new_operation(tenant, key=bytes([n]) * 32) for n in range(ROUNDS)]
    versions = []
    for number, operation in enumerate(operations):
        await workers[0].claim(operation, LEASE)
        versions.append(await _begun(workers[0], tenant, f"{number}", operation.upload))
    beats = [partial(w.touch, [v.id for v in versions]) for w in workers]
    commits = [
        partial(workers[n % WORKERS].commit, v, STORED, ANY, (tenant, operations[n].key_hash))
        for n, v in enumerate(versions)
    ]
    claims = [partial(workers[1].claim, o, LEASE) for o in operations]
    _all_went_well(await _at_once([*beats, *commits, *claims, *beats]))
    assert len(await workers[0].list(tenant, "", None, 99)) == ROUNDS


async def _claim_at_once(workers: list[SqlCatalog], tenant: str, number: int) -> None:
    claims = [new_operation(tenant, key=bytes([number]) * 32) for _ in workers]
    results = await _at_once(
        [partial(w.claim, o, LEASE) for w, o in zip(workers, claims, strict=True)]
    )
    (holder,) = {r.upload for r in _all_went_well(results)}
    assert holder in {o.upload for o in claims}


async def _begun(catalog: SqlCatalog, tenant: str, reference: str, id_: str = "") -> Version:
    upload = replace(new_upload(tenant), id=id_ or new_id())
    return version_of(upload, await catalog.begin(upload, reference))


async def _at_once(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    start = asyncio.Event()

    async def run(call: Callable[[], Awaitable[Any]]) -> Any:
        await start.wait()
        try:
            return await call()
        except GatewayError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(call)) for call in calls]
        await asyncio.sleep(0)
        start.set()
    return [task.result() for task in tasks]


def _all_went_well(results: list[Any]) -> list[Any]:
    assert not [r for r in results if isinstance(r, GatewayError)]
    return results
