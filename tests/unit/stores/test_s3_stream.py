"""Bodies read past aiohttp's reader: on both loops, plain and over TLS, split anywhere."""

import asyncio
import contextlib
import os
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvloop

from gateway.errors import StoreUnavailable
from gateway.stores.s3_stream import BLOCK, read_body
from tests.servers.certificates import issue

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
CONTENT = os.urandom(3 * BLOCK + 12_345)


class Server:
    """Answers every request of a connection by `answer`, which is told the request's number."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None) -> None:
        self._answer = answer
        self._context = context
        self.connections = 0
        self.requests = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"{'https' if self._context else 'http'}://127.0.0.1:{port}/"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                await self._answer(writer, self.requests)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def in_pieces(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT))
    step = 1 + 77_777 * (number % 3)
    for at in range(0, len(CONTENT), max(step, 5_000)):
        writer.write(CONTENT[at : at + max(step, 5_000)])
        await writer.drain()


async def at_once(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT)
    await writer.drain()


async def small(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
    await writer.drain()


async def cut_short(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:-1])
    await writer.drain()
    raise ConnectionResetError


async def stuck(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:-1])
    await writer.drain()
    await asyncio.sleep(60)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    chosen: Callable[[Awaitable[None]], None] = request.param
    return chosen


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def contexts(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | bool]:
    if not request.param:
        return None, True
    files = issue(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    return server, ssl.create_default_context(cafile=files.ca)


async def read(session: aiohttp.ClientSession, url: str, length: int, stall: float = 60.0) -> bytes:
    async with session.get(url) as response:
        blocks = [bytes(block) async for block in read_body(response, length, stall)]
    assert all(0 < len(block) <= 2 * BLOCK for block in blocks)
    return b"".join(blocks)


@pytest.mark.parametrize("answer", [in_pieces, at_once, small])
def test_a_connection_serves_one_body_after_the_other(
    answer: Answer,
    run: Callable[[Awaitable[None]], None],
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | bool],
) -> None:
    expected = b"small" if answer is small else CONTENT

    async def check() -> None:
        server = Server(answer, contexts[0])
        connector = aiohttp.TCPConnector(ssl=contexts[1])
        async with server.running() as url, aiohttp.ClientSession(connector=connector) as session:
            for _ in range(3):
                assert await read(session, url, len(expected)) == expected
            assert (server.connections, server.requests) == (1, 3)

    run(check())


@pytest.mark.parametrize("held", [0, 1, 100])
def test_a_block_stays_as_it_is_while_it_is_held(
    held: int, run: Callable[[Awaitable[None]], None]
) -> None:
    async def check() -> None:
        server = Server(in_pieces, None)
        async with (
            server.running() as url,
            aiohttp.ClientSession() as session,
            session.get(url) as response,
        ):
            holding: deque[bytes | memoryview] = deque(maxlen=held)
            at = 0
            async for block in read_body(response, len(CONTENT), 5.0):
                holding.append(block)
                at += len(block)
                assert b"".join(holding) == CONTENT[at - sum(map(len, holding)) : at]
            assert at == len(CONTENT)

    run(check())


def test_aiohttp_reads_on_the_same_connection_afterwards(
    run: Callable[[Awaitable[None]], None],
) -> None:
    async def check() -> None:
        server = Server(in_pieces, None)
        async with server.running() as url, aiohttp.ClientSession() as session:
            assert await read(session, url, len(CONTENT)) == CONTENT
            async with session.get(url) as response:
                assert await response.read() == CONTENT
            assert server.connections == 1

    run(check())


@pytest.mark.parametrize("length", [1, BLOCK, len(CONTENT) - 1])
def test_less_than_the_body_takes_the_connection_along(
    length: int, run: Callable[[Awaitable[None]], None]
) -> None:
    async def check() -> None:
        server = Server(in_pieces, None)
        async with server.running() as url, aiohttp.ClientSession() as session:
            for _ in range(2):
                assert await read(session, url, length) == CONTENT[:length]
            assert server.connections == 2

    run(check())


def test_a_reader_that_leaves_takes_the_connection_along(
    run: Callable[[Awaitable[None]], None],
) -> None:
    async def check() -> None:
        server = Server(in_pieces, None)
        async with server.running() as url, aiohttp.ClientSession() as session:
            async with (
                session.get(url) as response,
                aclosing(read_body(response, len(CONTENT), 5.0)) as blocks,
            ):
                assert await anext(blocks)
            assert await read(session, url, len(CONTENT)) == CONTENT
            assert server.connections == 2

    run(check())


@pytest.mark.parametrize(
    ("answer", "stall", "told"),
    [(cut_short, 60.0, "ended its answer early"), (stuck, 0.3, "nothing for too long")],
)
def test_a_body_without_its_end_is_an_error_after_what_came(
    answer: Answer, stall: float, told: str, run: Callable[[Awaitable[None]], None]
) -> None:
    async def most(blocks: AsyncGenerator[bytes | memoryview]) -> bool:
        came = 0
        while came < len(CONTENT) - 1:
            came += len(await anext(blocks))
        return True

    async def check() -> None:
        server, came = Server(answer, None), False
        async with server.running() as url, aiohttp.ClientSession() as session:
            while not came:
                async with session.get(url) as response:
                    blocks = read_body(response, len(CONTENT), stall)
                    with contextlib.suppress(StoreUnavailable):  # where the machine rests so long
                        came = await most(blocks)
                        with pytest.raises(StoreUnavailable, match=told):
                            await anext(blocks)

    run(check())


def test_a_slow_reader_holds_the_server(run: Callable[[Awaitable[None]], None]) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            writer.write(CONTENT)
            await writer.drain()
            sent += len(CONTENT)

    async def check() -> None:
        server = Server(endless, None)
        async with (
            server.running() as url,
            aiohttp.ClientSession() as session,
            session.get(url) as response,
            aclosing(read_body(response, 1 << 40, 5.0)) as blocks,
        ):
            await anext(blocks)
            async with asyncio.timeout(60):  # until the kernel's buffers are full, and ours
                before = -1
                while sent != before:
                    before = sent
                    await asyncio.sleep(0.3)

    run(check())
