"""A store that is after more than its share: it sends us elsewhere, never ends, or claims what is not so."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from gateway.errors import StoreDamaged, StoreError, StoreUnavailable
from gateway.stores.s3 import S3Store
from gateway.stores.s3_upload import S3Upload, _Part
from tests.faults.stores.rude_server import HASTY, Exchange, RudeServer
from tests.faults.stores.test_s3_rude_server import (
    CALLS,
    KEY,
    MIB,
    piece,
    status,
    store_at,
    upload_part,
)

BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
AROUND = {
    "list": b"<ListBucketResult><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    "unfinished": b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k"
    b"</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>",
}


@pytest.mark.parametrize("line", ["301 Moved", "307 Go", "308 Go"])
async def test_a_store_sends_nobody_elsewhere(line: str) -> None:
    async with RudeServer(status("200 OK")) as other:
        away = f"Location: {other.settings().endpoint}/bucket"
        async with store_at(status(line, b"", away, "X-Amz-Bucket-Region: eu-west-9")) as store:
            for call in (*CALLS.values(), upload_part):
                with pytest.raises(StoreError):  # a DELETE that nobody carried out, too
                    await call(store)

        assert not other.heads


@pytest.mark.parametrize("name", ["put", "list"])
async def test_an_answer_that_does_not_end_is_not_kept(name: str) -> None:
    sent = 0

    async def endless(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.body()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 400 * MIB:
            exchange.writer.write(b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")
            await exchange.writer.drain()
            sent += MIB

    async with store_at(endless) as store:
        if name == "put":  # the store has taken it, and said so
            await store.put(KEY, piece())
        else:
            with pytest.raises(StoreUnavailable):
                await CALLS[name](store)

    assert sent < 200 * MIB  # of which some tens may wait in sockets


async def test_an_answer_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that says a byte now and then is never silent for as long as a stalled one."""
    monkeypatch.setattr("gateway.stores.s3_session.PATIENCE", 0.1)
    left = asyncio.Event()

    async def drip(exchange: Exchange) -> None:
        await exchange.body()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                exchange.writer.write(b"1\r\n \r\n")
                await exchange.writer.drain()
                await asyncio.sleep(0.02)
        finally:
            left.set()

    async with store_at(drip) as store:
        await store.put(KEY, piece())
        await left.wait()


@pytest.mark.parametrize("name", ["complete", "confirm", "abort", "stat"])
async def test_a_call_that_is_answered_in_drips_ends(name: str) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.body()
        if name == "confirm" and exchange.head.startswith("POST "):
            await exchange.send("200 OK", COMPLETED)
            return
        exchange.writer.write(b"HTTP/1.1 200 OK\r\n")  # a head that does not end either
        for number in itertools.count():
            exchange.writer.write(b"x-%d: y\r\n" % (number % 9))
            await exchange.writer.drain()
            await asyncio.sleep(0.02)

    patient = {"complete_timeout": 60.0} if name == "confirm" else {}
    async with store_at(drip, **HASTY | patient) as store:
        link = await store._linked()
        upload = S3Upload(link.client, link.wire, store._settings, KEY, "id")
        upload._parts[1] = _Part("etag", 0, 1)
        calls: dict[str, Callable[[], Awaitable[object]]]
        calls = {"abort": upload.abort, "stat": lambda: store.stat(KEY)}
        with pytest.raises(StoreUnavailable):
            await calls.get(name, upload.complete)()


@pytest.mark.parametrize("name", AROUND)
async def test_a_listing_that_goes_round_in_a_circle_ends(name: str) -> None:
    async with store_at(status("200 OK", AROUND[name])) as store:
        with pytest.raises(StoreUnavailable, match="circle"):
            async for _ in getattr(store, name)("t/"):
                pass


@pytest.mark.parametrize("name", AROUND)
async def test_what_is_no_listing_is_not_an_empty_one(name: str) -> None:
    async with store_at(status("200 OK", b"<html>Please log in</html>")) as store:
        with pytest.raises(StoreUnavailable):
            async for _ in getattr(store, name)("t/"):
                pass


async def test_uploads_of_strange_keys_stand_in_nobodys_way() -> None:
    """They share a prefix with ours, and to discard one would be refused."""
    began = b"<Initiated>2026-01-01T00:00:00Z</Initiated>"
    keys = (b"t/a/body", b"t/a/body.old", b"t/a/", b"t/A/body", b"t/a/" + b"b" * 300)
    page = b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>%s</ListMultipartUploadsResult>"
    uploads = [
        b"<Upload><Key>%s</Key><UploadId>u</UploadId>%s</Upload>" % (key, began) for key in keys
    ]
    async with store_at(status("200 OK", page % b"".join(uploads))) as store:
        assert [each.key async for each in store.unfinished("t/a/")] == ["t/a/body"]


async def test_a_refusal_that_comes_in_pieces_is_understood() -> None:
    text = b'<?xml version="1.0"?>\n<Error><Code>RequestTimeout</Code></Error>'

    async def refuse(exchange: Exchange) -> None:
        await exchange.body()
        exchange.writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(text))
        for start in range(0, len(text), 20):
            exchange.writer.write(text[start : start + 20])
            await exchange.writer.drain()
            await asyncio.sleep(0.02)

    async with store_at(refuse) as store:
        with pytest.raises(StoreUnavailable):  # worth another try, which a bare 400 is not
            await store.put(KEY, piece())


async def test_slow_readers_hold_up_neither_writers_nor_other_readers() -> None:
    async def serve(exchange: Exchange) -> None:
        if exchange.head.startswith("PUT "):
            await exchange.body()
            await exchange.send("200 OK", b"", "ETag: x")
            return
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1000 * MIB))
        for _ in itertools.repeat(None):
            exchange.writer.write(bytes(MIB))
            await exchange.writer.drain()

    async with (
        store_at(serve, connections=1) as store,
        aclosing(store.read(KEY)) as slow,
        aclosing(store.read(KEY)) as other,
    ):
        await anext(slow)
        await anext(other)
        await store.put(KEY, piece())


async def test_a_store_that_says_it_holds_other_bytes_is_not_believed() -> None:
    other = "x-amz-checksum-crc64nvme: AAAAAAAAAAA="
    async with store_at(status("200 OK", b"", "ETag: x", other)) as store:
        with pytest.raises(StoreDamaged):
            await store.put(KEY, piece())


@pytest.mark.parametrize(("size", "kept"), [(6, True), (5, False)])
async def test_where_a_store_proves_nothing_the_size_has_to_be_right(
    size: int, *, kept: bool
) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.body()
        if exchange.head.startswith("POST "):
            begins = "?uploads " in exchange.head
            await exchange.send("200 OK", BEGUN if begins else COMPLETED)
        elif exchange.head.startswith("HEAD "):
            await exchange.send("200 OK", b"", f"Content-Length: {size}")
        else:
            await exchange.send("200 OK", b"", "ETag: x")

    async def store_it(store: S3Store) -> None:
        upload = await store.begin(KEY)
        await upload.part(1, piece())
        await upload.complete()

    async with store_at(serve) as store:
        if kept:
            await store_it(store)
        else:
            with pytest.raises(StoreDamaged):
                await store_it(store)
