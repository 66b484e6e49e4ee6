"""Bodies read past aiohttp's reader: split anywhere, followed by anything, left unread, cut off."""

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from gateway.errors import Disconnected, TooSlow
from gateway.http import straight
from gateway.http.connection import Runner
from gateway.http.crowd import Caps, Crowd
from gateway.http.metrics import Metrics
from gateway.http.pace import Pace
from gateway.http.requests import body_of, no_answer_yet
from keyservice.certs import issue
from tests.service.http.wire import Wire

BLOCK = 512 * 1024
BODY = os.urandom(3 * BLOCK + 12_345)
ENDS: list[type[BaseException]] = []  # how bodies that did not come whole ended


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straight, "BLOCK", BLOCK)


@dataclass(frozen=True, slots=True)
class World:
    """A loop, and both ends' trust if the connection is to be secured."""

    run: Callable[[Coroutine[None, None, None]], None]
    served: ssl.SSLContext | None = None
    trust: ssl.SSLContext | None = None

    def wire(self, url: str) -> Wire:
        return Wire(url, self.trust)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("certs")
    issue(folder, server_names=["127.0.0.1"], gateway_name="x", days=1)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(Path(folder, "keyservice.crt"), Path(folder, "keyservice.key"))
    return served, ssl.create_default_context(cafile=str(folder / "ca.crt"))


@pytest.fixture(params=["asyncio", "uvloop", "asyncio tls", "uvloop tls"])
def world(request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> World:
    loop, _, tls = request.param.partition(" ")
    run = uvloop.run if loop == "uvloop" else asyncio.run
    return World(run, *contexts) if tls else World(run)


async def digest(request: web.Request) -> web.Response:
    """Answer with the digest of the whole body, read slowly."""
    running = hashlib.sha256()
    async for piece in body_of(request, Pace(1, 60)):
        await asyncio.sleep(0)
        running.update(piece)
    return web.Response(text=running.hexdigest())


async def glance(request: web.Request) -> web.Response:
    """Answer after the first piece."""
    body = body_of(request, Pace(1, 60))
    seen = len(await anext(body))
    await body.aclose()
    return web.Response(text=str(seen))


async def refuse(request: web.Request) -> web.Response:  # noqa: ARG001 - that is the point
    """Answer without a look at the body."""
    return web.Response(text="no")


async def hurry(request: web.Request) -> web.Response:
    """Read the body with little patience, and note how it ended if it did not come whole."""
    return await noted(request, Pace(1 << 30, 0.2))


async def watch(request: web.Request) -> web.Response:
    """Read the body with patience, and note how it ended if it did not come whole."""
    return await noted(request, Pace(1, 60))


async def noted(request: web.Request, pace: Pace) -> web.Response:
    try:
        async for _ in body_of(request, pace):
            pass
    except (Disconnected, TooSlow, asyncio.CancelledError) as error:
        ENDS.append(type(error))
        raise
    return web.Response()


async def sever(request: web.Request) -> web.Response:
    """Cut the connection after the first piece, and note how the body ends."""
    body = body_of(request, Pace(1, 60))
    try:
        await anext(body)
        assert request.transport is not None
        request.transport.abort()
        async for _ in body:
            pass
    except BaseException as error:
        ENDS.append(type(error))
        raise
    finally:
        await body.aclose()
    return web.Response()


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[str]:
    ENDS.clear()
    app = web.Application()
    for handler in (digest, glance, refuse, hurry, watch, sever):
        path = f"/{handler.__name__}"
        app.router.add_route("PUT", path, handler, expect_handler=no_answer_yet)
    crowd = Crowd(Caps(), Metrics(()))
    runner = Runner(app, drain_timeout=1.0, head_timeout=5.0, crowd=crowd)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=world.served).start()
        scheme = "https" if world.served else "http"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def head(path: str, size: int = len(BODY), *fields: str) -> bytes:
    lines = (f"PUT {path} HTTP/1.1", "Host: h", f"Content-Length: {size}", *fields, "", "")
    return "\r\n".join(lines).encode()


async def ended() -> type[BaseException]:
    async with asyncio.timeout(60):
        while not ENDS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return ENDS[0]


@pytest.mark.parametrize("step", [33_333, BLOCK, len(BODY)])
def test_one_connection_serves_body_after_body(step: int, world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            for _ in range(3):
                await wire.send(head("/digest"))
                for at in range(0, len(BODY), step):
                    await wire.send(BODY[at : at + step])
                    await asyncio.sleep(0)
                assert (await wire.answer()).body.decode() == sha256(BODY)

    world.run(check())


def test_the_connection_is_taken_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read, made = 0, list[object]()

    class Counting(straight.Straight):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

        def buffer_updated(self, nbytes: int) -> None:
            nonlocal read
            read += nbytes
            super().buffer_updated(nbytes)

    monkeypatch.setattr(straight, "Straight", Counting)

    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            await wire.send(head("/digest"))
            async with asyncio.timeout(60):
                while not made:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await wire.send(BODY)
            assert (await wire.answer()).body.decode() == sha256(BODY)

    world.run(check())
    assert read == len(BODY)


def test_requests_sent_one_behind_the_other_are_answered_in_turn(world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            bodies = [BODY[: 200_000 * number + 1] for number in range(6)]
            everything = b"".join(head("/digest", len(body)) + body for body in bodies)
            async with asyncio.TaskGroup() as group:
                group.create_task(wire.send(everything))
                for body in bodies:
                    assert (await wire.answer()).body.decode() == sha256(body)

    world.run(check())


def test_a_body_that_waits_for_its_leave(world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            for _ in range(2):
                await wire.send(head("/digest", len(BODY), "Expect: 100-continue"))
                assert (await wire.answer()).status == 100
                await wire.send(BODY)
                assert (await wire.answer()).body.decode() == sha256(BODY)

    world.run(check())


@pytest.mark.parametrize("path", ["/glance", "/refuse"])
def test_a_body_left_unread_is_passed_over(path: str, world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            for _ in range(3):
                await wire.send(head(path), BODY[:300_000])
                assert (await wire.answer()).status == 200
                await wire.send(BODY[300_000:])
            await wire.send(head("/digest"), BODY)
            assert (await wire.answer()).body.decode() == sha256(BODY)

    world.run(check())


@pytest.mark.parametrize("sent", [100_000, BLOCK, len(BODY) - 1])
def test_a_client_that_leaves_ends_its_request(sent: int, world: World) -> None:
    async def check() -> None:
        async with serving(world) as url:
            async with world.wire(url) as wire:
                await wire.send(head("/watch"), BODY[:sent])
            await ended()

    world.run(check())


def test_a_body_that_ends_early_was_cut_off(world: World) -> None:
    if world.trust:
        pytest.skip("TLS ends in both directions at once")

    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            await wire.send(head("/watch"), BODY[:-1])
            wire.writer.write_eof()
            assert await ended() is not TooSlow
            assert await wire.closed() == b""

    world.run(check())


def test_a_connection_that_was_cut_ends_the_body(world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            with suppress(ConnectionError):  # it may be cut while this is being sent
                await wire.send(head("/sever"), BODY[: 2 * BLOCK])
            assert await ended() in {Disconnected, asyncio.CancelledError}

    world.run(check())


def test_a_client_that_stops_sending_is_too_slow(world: World) -> None:
    async def check() -> None:
        async with serving(world) as url, world.wire(url) as wire:
            await wire.send(head("/hurry"), BODY[:-1])
            assert await ended() is TooSlow
            assert (await wire.answer()).status == 500

    world.run(check())
