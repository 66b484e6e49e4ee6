"""Faults of a real S3 server, and of those who use it."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from gateway.ports import Piece
from gateway.stores.retry import RetryPolicy
from gateway.stores.retrying import RetryingStore
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings
from tests.servers.versitygw import Versitygw

MIB = 1024 * 1024
KEY = "t/a/b/body"
DATA = hashlib.shake_128(b"sealed").digest(6 * MIB)


def piece(data: bytes) -> Piece:
    return Piece(memoryview(data), crc64nvme(data))


def settings(server: Versitygw, bucket: str) -> S3Settings:
    return S3Settings(
        "test",
        bucket,
        server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        connect_timeout=60.0,  # the machine may be busy
        stall_timeout=60.0,
    )


async def finish(pieces: AsyncGenerator[bytes | memoryview]) -> None:
    async for _ in pieces:
        pass


async def content(store: S3Store | RetryingStore, key: str = KEY) -> bytes:
    async with aclosing(store.read(key)) as pieces:
        return b"".join([each async for each in pieces])


Open = Callable[[S3Settings], S3Store]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Open stores that are closed after the test."""
    stores: list[S3Store] = []

    def open_one(settings: S3Settings) -> S3Store:
        stores.append(S3Store(settings))
        return stores[-1]

    yield open_one
    for each in stores:
        await each.close()


@pytest.fixture
def store(s3: Versitygw, opened: Open) -> S3Store:
    return opened(settings(s3, s3.new_bucket()))


@pytest.mark.parametrize("size", [0, 5, MIB])
async def test_a_body_that_does_not_match_its_checksum_is_refused(
    store: S3Store, size: int
) -> None:
    wrong = Piece(memoryview(DATA[:size]), crc64nvme(b"other"))
    with pytest.raises(StoreDamaged):
        await store.put(KEY, wrong)
    upload = await store.begin(KEY)
    with pytest.raises(StoreDamaged):
        await upload.part(1, wrong)
    with pytest.raises(StoreDenied):
        await upload.complete()
    await upload.abort()
    with pytest.raises(ObjectMissing):
        await store.stat(KEY)


async def test_the_whole_is_checked_as_well(store: S3Store) -> None:
    upload = await store.begin(KEY)
    await upload.part(1, piece(DATA))
    upload._parts[1] = replace(upload._parts[1], crc64nvme=7)  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        await upload.complete()
    with pytest.raises(ObjectMissing):
        await store.stat(KEY)
    await upload.abort()


@pytest.mark.parametrize("size", [MIB, 6 * MIB])
async def test_a_refused_body_spoils_no_later_request(store: S3Store, size: int) -> None:
    await store.put(KEY, piece(b"first"))
    for _ in range(10):
        with pytest.raises((ObjectExists, StoreUnavailable)):  # unread, its answer may be cut off
            await store.put(KEY, piece(DATA[:size]))
        assert await content(store) == b"first"


async def test_a_large_body_for_a_taken_key_is_refused_by_name(store: S3Store) -> None:
    tried = RetryingStore(store, RetryPolicy(first_pause=0.01))
    await store.put(KEY, piece(b"first"))
    with pytest.raises(ObjectExists):
        await tried.put(KEY, piece(DATA))


async def test_a_store_that_knows_only_md5(s3: Versitygw, opened: Open) -> None:
    store = opened(replace(settings(s3, s3.new_bucket()), checksum="md5"))
    await store.put("t/x", piece(b"sealed"))
    upload = await store.begin(KEY)
    await upload.part(1, piece(DATA))
    await upload.part(2, piece(b"end"))
    await upload.complete()
    assert await content(store, "t/x") == b"sealed"
    assert await content(store) == DATA + b"end"


async def test_where_others_may_listen_bodies_are_signed(
    s3: Versitygw, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    monkeypatch.setattr(S3Settings, "private", property(lambda _: False))
    store = opened(settings(s3, s3.new_bucket()))
    await store.put("t/x", piece(b"sealed"))
    upload = await store.begin(KEY)
    await upload.part(1, piece(DATA))
    await upload.complete()
    assert await content(store) == DATA


async def test_wrong_credentials_are_denied_and_not_shown(
    s3: Versitygw, caplog: pytest.LogCaptureFixture, opened: Open
) -> None:
    caplog.set_level(logging.INFO)
    wrong = replace(settings(s3, s3.new_bucket()), secret_key="wrong-secret")
    store = opened(wrong)
    for call in (store.check(), store.put(KEY, piece(b"x")), content(store), store.begin(KEY)):
        with pytest.raises(StoreDenied) as raised:
            await call
        assert s3.access_key not in repr(raised.value)
        assert "wrong-secret" not in repr(raised.value)
    assert "wrong-secret" not in caplog.text


async def test_a_bucket_that_does_not_exist_is_denied(s3: Versitygw, opened: Open) -> None:
    store = opened(settings(s3, "no-such-bucket"))
    for call in (
        store.check(),
        store.stat(KEY),
        store.put(KEY, piece(b"x")),
        content(store),
        store.begin(KEY),
    ):
        with pytest.raises(StoreDenied, match="bucket"):
            await call


@pytest.fixture
def no_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_chain")
async def test_credentials_may_come_from_the_environment(
    s3: Versitygw, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    store = opened(S3Settings("test", s3.new_bucket(), s3.endpoint))
    await store.put(KEY, piece(b"sealed"))
    assert await content(store) == b"sealed"


@pytest.mark.usefixtures("no_chain")
async def test_without_credentials_a_store_says_so(s3: Versitygw, opened: Open) -> None:
    store = opened(S3Settings("test", s3.new_bucket(), s3.endpoint))
    with pytest.raises(StoreDenied, match="credentials"):
        await store.check()


async def test_a_closed_store_is_unavailable(s3: Versitygw, opened: Open) -> None:
    store = opened(settings(s3, s3.new_bucket()))
    await store.put(KEY, piece(b"sealed"))
    upload = await store.begin(KEY)
    await store.close()
    await store.close()
    for call in (
        store.check(),
        store.put(KEY, piece(b"x")),
        content(store),
        upload.part(1, piece(b"x")),
    ):
        with pytest.raises(StoreUnavailable):
            await call


async def test_an_upload_survives_neither_its_server_nor_half(
    new_s3: Callable[[], Versitygw],
    opened: Open,
) -> None:
    server = await asyncio.to_thread(new_s3)
    store = opened(settings(server, server.new_bucket()))
    upload = await store.begin(KEY)
    await upload.part(1, piece(DATA))
    await asyncio.to_thread(server.kill)
    with pytest.raises(StoreUnavailable):
        await upload.part(2, piece(DATA))
    with pytest.raises(StoreUnavailable):
        await store.check()
    await asyncio.to_thread(server.start)
    with pytest.raises(ObjectMissing):
        await store.stat(KEY)
    assert [each.key async for each in store.list("")] == []
    (left,) = [each async for each in store.unfinished("t/")]
    await store.discard(left)
    assert [each async for each in store.unfinished("")] == []


async def test_retries_carry_an_upload_over_a_restart(
    new_s3: Callable[[], Versitygw], opened: Open
) -> None:
    server = await asyncio.to_thread(new_s3)
    store = RetryingStore(
        opened(settings(server, server.new_bucket())), RetryPolicy(tries=90, longest_pause=1.0)
    )
    upload = await store.begin(KEY)
    await upload.part(1, piece(DATA))
    await asyncio.to_thread(server.kill)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(upload.part(2, piece(b"end")))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.start)
    await upload.complete()
    assert await content(store) == DATA + b"end"


async def test_a_paused_server_is_given_up_in_time(
    new_s3: Callable[[], Versitygw], opened: Open
) -> None:
    server = await asyncio.to_thread(new_s3)
    patient = settings(server, server.new_bucket())
    store, hasty = (
        opened(patient),
        opened(replace(patient, stall_timeout=0.4, connect_timeout=0.4)),
    )
    await store.put(KEY, piece(DATA))
    await store.put("t/long", piece(DATA * 8))  # longer than what waits in sockets
    reading = await begun(hasty, "t/long")
    await asyncio.to_thread(server.pause)
    try:
        async with asyncio.timeout(60):
            for call in (hasty.stat(KEY), hasty.put("t/c", piece(DATA)), content(hasty)):
                with pytest.raises(StoreUnavailable):
                    await call
            with pytest.raises(StoreUnavailable):
                await finish(reading)  # what had been sent already still arrives
    finally:
        await asyncio.to_thread(server.resume)
    assert await content(store) == DATA


async def begun(store: S3Store, key: str) -> AsyncGenerator[bytes | memoryview]:
    """Read a first piece, again where the machine was slower than the store may be."""
    while True:
        reading = store.read(key)
        try:
            await anext(reading)
        except StoreUnavailable:
            continue
        return reading


async def test_what_is_deleted_or_changed_meanwhile_is_not_replaced(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is told which object it is that may be replaced, and heeds it."""
    meanwhile: list[Callable[[], Awaitable[None]]] = [lambda: store.delete(KEY)]
    head = S3Store._head

    async def asked(self: S3Store, key: str) -> dict[str, Any]:
        found = await head(self, key)
        for step in meanwhile:
            await step()
        return found

    monkeypatch.setattr(S3Store, "_head", asked)
    await store.put(KEY, piece(b"old"))
    with pytest.raises(ObjectMissing):
        await store.replace(KEY, piece(b"new"))
    meanwhile.append(lambda: store.put(KEY, piece(b"another")))
    await store.put(KEY, piece(b"old"))
    with pytest.raises(StoreUnavailable):
        await store.replace(KEY, piece(b"new"))
    assert await content(store) == b"another"
