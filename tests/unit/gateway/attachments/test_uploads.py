"""An upload that fails at any point leaves nothing visible; one that went through loses nothing."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import timedelta

import pytest

from gateway.attachments.uploads import Draft
from gateway.errors import (
    CatalogUnavailable,
    DigestMismatch,
    NotFound,
    PreconditionFailed,
    TooLarge,
    UploadLost,
)
from gateway.model import Precondition, ReplicaState, Version
from keyservice.wire import Unavailable
from tests.unit.gateway.conftest import PART, Bench, pieces


def nothing_left(bench: Bench) -> bool:
    return all(not store.keys and not store.open_uploads for store in bench.stores)


def after_commit(
    bench: Bench, then: Callable[[], Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    """Return a commit that goes through and then does something else."""
    commit = bench.catalog.commit

    async def wrapped(
        version: Version,
        replicas: Mapping[str, ReplicaState],
        precondition: Precondition,
        operation: tuple[str, bytes] | None,
        epoch: int,
    ) -> None:
        await commit(version, replicas, precondition, operation, epoch)
        await then()

    return wrapped


async def _lose() -> None:
    raise CatalogUnavailable("connection lost")


async def test_a_new_version_takes_the_place_of_the_old_which_stays_readable(bench: Bench) -> None:
    first = await bench.store(b"one")
    await bench.store(b"two")

    assert await bench.read() == b"two"
    old = await bench.catalog.find(bench.tenant, "report", first.version.id)
    opened = await bench.downloads.open(old, request_id="")
    assert [piece async for piece in bench.downloads.read(opened, 0, 3)] == [b"one"]


async def test_a_wrong_digest_is_refused_and_removed(bench: Bench) -> None:
    draft = Draft(bench.tenant, "r", digests={"sha-256": hashlib.sha256(b"other").digest()})

    with pytest.raises(DigestMismatch, match="sha-256"):
        await bench.uploads.store(draft, pieces(os.urandom(3 * PART)))

    await bench.background.settle()
    assert nothing_left(bench)
    with pytest.raises(NotFound):
        await bench.catalog.find(bench.tenant, "r")


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversize_body_is_refused_and_removed(bench: Bench, *, declared: bool) -> None:
    bench.max_size = PART
    content = os.urandom(PART + 1)
    draft = Draft(bench.tenant, "r", length=len(content) if declared else None)

    with pytest.raises(TooLarge, match="limited"):
        await bench.uploads.store(draft, pieces(content))

    await bench.background.settle()
    assert nothing_left(bench)


async def test_a_failed_precondition_removes_what_was_written(bench: Bench) -> None:
    await bench.store(b"x" * PART)
    before = bench.primary.keys
    draft = Draft(bench.tenant, "report", precondition=Precondition(must_exist=False))

    with pytest.raises(PreconditionFailed):
        await bench.uploads.store(draft, pieces(os.urandom(PART)))

    await bench.background.settle()
    assert bench.primary.keys == before
    assert await bench.read() == b"x" * PART


async def test_without_keys_nothing_is_read_or_written(bench: Bench) -> None:
    bench.keys.down = True
    read = 0

    async def source() -> AsyncGenerator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    with pytest.raises(Unavailable):
        await bench.uploads.store(Draft(bench.tenant, "r"), source())

    await bench.background.settle()
    assert read == 0
    assert nothing_left(bench)


async def test_a_commit_whose_answer_was_lost_is_acknowledged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.catalog, "commit", after_commit(bench, _lose))
    content = os.urandom(2 * PART)

    await bench.store(content)

    await bench.background.settle()
    assert await bench.read() == content


async def test_an_unknown_outcome_says_so_and_removes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_: str) -> bool:
        raise CatalogUnavailable("still lost")

    content = os.urandom(2 * PART)
    with monkeypatch.context() as broken:
        broken.setattr(bench.catalog, "commit", after_commit(bench, _lose))
        broken.setattr(bench.catalog, "committed", gone)
        with pytest.raises(CatalogUnavailable, match="outcome of this upload is not known"):
            await bench.store(content)
        await bench.background.settle()

    assert await bench.read() == content


async def test_cancelled_just_after_the_commit_every_byte_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * PART)

    committed = asyncio.Event()

    async def hang() -> None:
        committed.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as slowed:
        slowed.setattr(bench.catalog, "commit", after_commit(bench, hang))
        storing = asyncio.ensure_future(bench.store(content))
        await committed.wait()
        storing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await storing
        await bench.background.settle()

    assert await bench.read() == content


async def test_a_fenced_upload_cannot_commit(bench: Bench) -> None:
    async def source() -> AsyncGenerator[bytes]:
        yield b"x" * PART
        (upload,) = await bench.catalog.stale(timedelta(), 10)
        assert upload.tenant == bench.tenant
        yield b"y" * PART

    with pytest.raises(UploadLost):
        await bench.uploads.store(Draft(bench.tenant, "r"), source())

    await bench.background.settle()
    assert nothing_left(bench)
