"""A store that misbehaves is a StoreError in good time, whatever it does."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from gateway.model import now
from gateway.ports import Piece, Unfinished
from gateway.stores.retry import RetryPolicy
from gateway.stores.retrying import RetryingStore
from gateway.stores.s3 import S3Store
from tests.faults.stores.rude_server import HASTY, Answer, Exchange, RudeServer
from tests.servers.certificates import issue

MIB = 1024 * 1024
KEY = "t/a/b/body"
DATA = bytes(range(256)) * 4096


def piece(data: bytes | bytearray = b"sealed") -> Piece:
    return Piece(memoryview(data), crc64nvme(bytes(data)))


async def content(store: S3Store | RetryingStore, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(store.read(KEY, start, stop)) as pieces:
        return b"".join([each async for each in pieces])


@asynccontextmanager
async def store_at(answer: Answer, **others: Any) -> AsyncIterator[S3Store]:
    async with RudeServer(answer) as server:
        store = S3Store(server.settings(**others))
        try:
            async with asyncio.timeout(100):
                yield store
        finally:
            await store.close()


def status(line: str, body: bytes = b"", *headers: str) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.send(line, body, *headers)

    return answer


async def hang_up(exchange: Exchange) -> None:
    """Answer nothing and close."""


async def silence(exchange: Exchange) -> None:
    await exchange.body()
    await asyncio.sleep(60)


async def deaf(_exchange: Exchange) -> None:
    await asyncio.sleep(60)


async def half(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.send("200 OK", DATA[:1000], "Content-Length: 2000")


async def half_then_silence(exchange: Exchange) -> None:
    await half(exchange)
    await asyncio.sleep(60)


async def babble(exchange: Exchange) -> None:
    exchange.writer.write(b"\x00\xff what is HTTP\r\n\r\n")
    await exchange.writer.drain()


async def upload_part(store: S3Store) -> None:
    upload = await store.begin(KEY)
    await upload.part(1, piece())


CALLS: dict[str, Callable[[S3Store], Awaitable[object]]] = {
    "put": lambda store: store.put(KEY, piece(DATA)),
    "begin": lambda store: store.begin(KEY),
    "read": content,
    "stat": lambda store: store.stat(KEY),
    "delete": lambda store: store.delete(KEY),
    "list": lambda store: anext(store.list("t/")),
    "unfinished": lambda store: anext(store.unfinished("t/")),
    "touched": lambda store: store.touched(Unfinished(KEY, "id", now())),
    "discard": lambda store: store.discard(Unfinished(KEY, "id", now())),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("fault", [hang_up, silence, babble], ids=lambda each: each.__name__)
async def test_a_store_that_does_not_answer_is_unavailable(
    call: Callable[[S3Store], Awaitable[object]], fault: Answer
) -> None:
    async with store_at(fault, **HASTY) as store:
        with pytest.raises(StoreUnavailable):
            await call(store)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_busy_store_says_when_to_come_back(
    call: Callable[[S3Store], Awaitable[object]],
) -> None:
    async with store_at(status("503 Slow Down", b"", "Retry-After: 3")) as store:
        with pytest.raises(StoreUnavailable) as raised:
            await call(store)
    assert raised.value.retry_after == 3


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_port_where_nobody_listens_is_unavailable(
    call: Callable[[S3Store], Awaitable[object]],
) -> None:
    async with RudeServer(hang_up) as server:
        nowhere = server.settings()
    store = S3Store(nowhere)
    with pytest.raises(StoreUnavailable):
        await call(store)
    await store.close()


@pytest.mark.parametrize("fault", [half, half_then_silence], ids=lambda each: each.__name__)
async def test_a_read_that_breaks_off_tells_so_after_what_came(fault: Answer) -> None:
    async with store_at(fault, **HASTY) as store:
        first, pieces = await begun(store)
        assert first == DATA[:1000]
        with pytest.raises(StoreUnavailable):
            await anext(pieces)
        await pieces.aclose()


async def begun(store: S3Store) -> tuple[bytes | memoryview, AsyncGenerator[bytes | memoryview]]:
    """Read a first piece, again where the machine was slower than the store may be."""
    while True:
        pieces = store.read(KEY)
        try:
            return await anext(pieces), pieces
        except StoreUnavailable:
            await pieces.aclose()


@pytest.mark.parametrize(
    ("answer", "start", "stop"),
    [
        (status("206 Partial", DATA[:10], "Content-Range: bytes 0-9/100"), 5, 15),
        (status("206 Partial", DATA[:5], "Content-Range: bytes 5-9/10"), 5, 15),
        (status("206 Partial", DATA[:20], "Content-Range: bytes 5-24/100"), 5, 15),
        (status("206 Partial", DATA[:10]), 5, 15),
        (status("206 Partial", DATA[:10], "Content-Range: nonsense"), 5, 15),
        (status("200 OK", DATA[:10]), 5, 15),
        (status("200 OK", DATA[:10]), 0, 15),
        (status("200 OK", b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 0, 5),
    ],
)
async def test_bytes_that_were_not_asked_for_are_damage(
    answer: Answer, start: int, stop: int
) -> None:
    async with store_at(answer) as store:
        with pytest.raises(StoreDamaged):
            await content(store, start, stop)


async def test_a_store_that_ignores_ranges_still_gives_a_beginning() -> None:
    async with store_at(status("200 OK", DATA[:1000])) as store:
        assert await content(store, 0, 10) == DATA[:10]


async def test_a_store_that_takes_nothing_is_cut_off() -> None:
    async with store_at(deaf, **HASTY) as store:
        with pytest.raises(StoreUnavailable):
            await store.put(KEY, piece(bytes(32 * MIB)))


async def test_a_slow_store_that_goes_on_taking_is_not() -> None:
    taken = bytearray()

    async def slow(exchange: Exchange) -> None:
        taken.clear()
        left = exchange.length
        while left:
            block = await exchange.reader.read(MIB)
            taken.extend(block)
            left -= len(block)
            await asyncio.sleep(0.01)  # altogether longer than the stall time
        await exchange.send("200 OK")

    body = bytes(24 * MIB)
    async with store_at(slow, stall_timeout=1.0) as store:
        for left in reversed(range(20)):
            try:
                await store.put(KEY, piece(body))
            except StoreUnavailable:  # once it is the machine that rested for so long
                assert left
            else:
                break
    assert taken == body


@pytest.mark.parametrize("size", [1000, MIB, 8 * MIB])
async def test_an_early_refusal_is_heard(size: int) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send("412 No", b"<Error><Code>PreconditionFailed</Code></Error>")

    async with store_at(refuse) as store:
        for _ in range(5):
            with pytest.raises(ObjectExists):
                await store.put(KEY, piece(bytes(size)))


async def test_what_a_cancelled_put_left_in_memory_is_never_sent() -> None:
    begun = asyncio.Event()
    read_on = asyncio.Event()
    ended = asyncio.Event()
    got = bytearray()

    async def late(exchange: Exchange) -> None:
        begun.set()
        await read_on.wait()
        try:
            while block := await exchange.reader.read(MIB):
                got.extend(block)
        finally:
            ended.set()

    memory = bytearray(b"a" * 32 * MIB)
    async with store_at(late) as store:
        task = asyncio.create_task(store.put(KEY, piece(memory)))
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        memory[:] = b"b" * len(memory)
        read_on.set()
        await ended.wait()
    assert len(got) < len(memory)
    assert b"b" not in got


async def test_a_reader_that_leaves_stops_the_store() -> None:
    sent = 0
    stopped = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send("200 OK", b"", f"Content-Length: {1 << 40}")
        try:
            while True:
                exchange.writer.write(DATA)
                await exchange.writer.drain()
                sent += len(DATA)
        finally:
            stopped.set()

    async with store_at(endless) as store:
        async with aclosing(store.read(KEY)) as pieces:
            await anext(pieces)
        await stopped.wait()
    assert sent < 32 * MIB


async def test_a_retried_read_goes_on_at_the_byte_where_it_broke() -> None:
    starts = []

    async def cut_short(exchange: Exchange) -> None:
        line = next(line for line in exchange.head.splitlines() if line.startswith("range:"))
        start = int(line.removeprefix("range: bytes=").split("-")[0])
        starts.append(start)
        told = (
            f"Content-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}",
            f"Content-Length: {len(DATA) - start}",
        )
        await exchange.send("206 Partial", DATA[start : start + 300_000], *told)

    async with store_at(cut_short) as store:
        tried = RetryingStore(store, RetryPolicy(first_pause=0.01))
        assert await content(tried, 1, len(DATA)) == DATA[1:]
    assert len(starts) == 4
    assert starts == sorted(set(starts))


async def test_of_what_is_signed_nothing_leaks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.INFO)  # at DEBUG it prints whole requests
    answer = status("403 No", b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
    async with store_at(answer) as store:
        for call in CALLS.values():
            with pytest.raises(StoreDenied) as raised:
                await call(store)
            for text in (str(raised.value), repr(raised.value), repr(raised.value.__cause__)):
                assert "AKIA" not in text
                assert "secret-key" not in text
    assert "secret-key" not in caplog.text


async def test_a_missing_bucket_is_no_missing_object() -> None:
    async with store_at(status("404 Not Found")) as store:
        with pytest.raises(StoreDenied, match="bucket"):
            await store.stat(KEY)
        with pytest.raises(StoreDenied, match="bucket"):
            await store.check()
        with pytest.raises(ObjectMissing):
            await content(store)


@settings(max_examples=40, deadline=None)
@given(
    code=st.integers(100, 599),
    body=st.binary(max_size=60) | st.sampled_from([b"<a", b"<a/>", b"<Error><Code>X</Code></Error>"]),
    header=st.sampled_from(
        ["X: y", "Retry-After: soon", "Content-Range: bytes 0-1/2", "Connection: close",
         "Location: http://[", "Transfer-Encoding: chunked", "Content-Encoding: gzip",
         "Content-Length: 9999", "ETag: x", "Last-Modified: never", "Content-Type: application/xml"]
    ),
    name=st.sampled_from([*CALLS, "part"]),
)  # fmt: skip
async def test_no_answer_makes_another_error_escape(
    code: int, body: bytes, header: str, name: str
) -> None:
    calls = CALLS | {"part": upload_part}
    async with store_at(status(f"{code} Any", body, header), **HASTY) as store:
        try:
            await calls[name](store)
        except (StoreError, StopAsyncIteration):
            return


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    issue(folder)
    return folder


def context(folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "server.pem", folder / "server.key")
    return made


async def test_over_tls_bodies_travel_whole(authority: Path) -> None:
    got = []

    async def take(exchange: Exchange) -> None:
        got.append(await exchange.body())
        await exchange.send("200 OK")

    async with RudeServer(take, context(authority)) as server:
        store = S3Store(server.settings(ca_file=str(authority / "ca.pem")))
        await store.check()
        await store.put(KEY, piece(DATA * 9))
        await store.close()
    assert got == [b"", DATA * 9]


async def test_a_certificate_of_somebody_else_is_refused(authority: Path) -> None:
    async with RudeServer(status("200 OK"), context(authority)) as server:
        store = S3Store(server.settings())
        for call in CALLS.values():
            with pytest.raises(StoreUnavailable):
                await call(store)
        await store.close()
    assert server.heads == []
