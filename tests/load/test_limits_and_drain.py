"""Caps that refuse at once and never queue, and a stop that finishes what runs before its deadline."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.load.conftest import on_folders
from tests.load.peers import Peer
from tests.load.place import Place, quiet
from tests.stack.client import Client, MiB, digest_of, generated

STREAMS, OF_ONE = 6, 4
SIZE = 24 * MiB  # beyond what the kernel would take at once
DELAY, DEADLINE = 3.0, 5.0


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a gateway with small caps, and a delay and a deadline for its stop."""
    home = tmp_path_factory.mktemp("capped")
    options = on_folders(
        home,
        extra={"limits": {"streams": STREAMS, "tenant_streams": OF_ONE}},
        top={"drain_delay": DELAY, "drain_timeout": DEADLINE},
    )
    place = Place(home / "stack", **options)
    place.start()
    yield place
    place.gateway.kill()
    place.stop()


@pytest.fixture(scope="module")
def capped_token(capped: Place) -> str:
    """Return a token that may do everything there."""
    return capped.admin_token()


async def busy(client: Client, method: str, path: str, **options: Any) -> bool:
    """Tell whether a request is refused as too many, in the form that is promised."""
    async with client.request(method, path, **options) as answer:
        if answer.status != 503:
            return False
        assert int(answer.headers["Retry-After"]) >= 1
        return bool((await answer.json(content_type=None))["type"].endswith(":busy"))


async def test_streams_beyond_the_caps_are_refused_at_once_and_served_afterwards(
    capped: Place, capped_token: str
) -> None:
    place, token = capped, capped_token
    async with AsyncExitStack() as stack:
        client, one = await stack.enter_async_context(place.tenant(token))
        _, other = await stack.enter_async_context(place.tenant(token))
        for above in (one, other):
            await client.json("PUT", f"{above}/large", data=generated(SIZE))
        before = await place.holdings()

        held = [await _held(place, f"{one}/large", token) for _ in range(OF_ONE)]
        # None of the held streams moves, so that whoever queued would never be answered.
        async with asyncio.timeout(30):
            refused = await asyncio.gather(
                *(busy(client, "GET", f"{one}/large") for _ in range(30)),
                *(busy(client, "PUT", f"{one}/new", data=b"x" * 1000) for _ in range(10)),
            )
        assert all(refused)
        held += [await _held(place, f"{other}/large", token) for _ in range(STREAMS - OF_ONE)]
        assert await busy(client, "GET", f"{other}/large")
        assert (await client.json("GET", one))["attachments"][0]["attachment"] == "large"

        for peer in held:
            peer.drop()
        await eventually_served(client, f"{one}/large")
        assert not await busy(client, "PUT", f"{other}/new", data=b"x")
    await quiet(place, before)


async def _held(place: Place, path: str, token: str) -> Peer:
    """Begin a download and take no more than its head."""
    peer = await Peer().connect(place.port)
    await peer.request("GET", path, token)
    assert await peer.head() == 200
    return peer


async def eventually_served(client: Client, path: str) -> None:
    until = time.monotonic() + 60
    while await busy(client, "GET", path):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_a_stop_shows_finishes_and_then_cuts(capped: Place, capped_token: str) -> None:
    place, token = capped, capped_token
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(SIZE))
        stalled = [await _held(place, f"{above}/large", token) for _ in range(2)]
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield bytes(100_000)
            await go_on.wait()
            yield bytes(100_000)

        async with asyncio.TaskGroup() as group:
            upload = group.create_task(client.json("PUT", f"{above}/slow", data=slowly()))
            async with client.request("GET", f"{above}/large") as answer:
                first = await answer.content.readexactly(MiB)
                began = time.monotonic()
                stopping = group.create_task(asyncio.to_thread(place.gateway.stop))
                assert await _unready_but_open(place)
                assert not stopping.done()
                await _closed_to_new(place)
                go_on.set()
                rest = await answer.content.read()
            assert len(first + rest) == SIZE
            receipt = await upload
            assert receipt["size"] == 200_000
        took = time.monotonic() - began
    for peer in stalled:
        assert len(await peer.until_cut()) < SIZE
        peer.close()

    assert took >= DELAY + DEADLINE - 0.5
    await asyncio.to_thread(place.gateway.start)
    events = _events(place)
    assert events.index("draining") < len(events) - 1
    assert took < DELAY + DEADLINE + 30, "the deadline was not kept"
    async with Client(place.url, token) as client:
        assert await client.digest(f"{above}/large") == await digest_of(generated(SIZE))
        assert await client.digest(f"{above}/slow")
    assert place.uploads() == 0


async def _unready_but_open(place: Place) -> bool:
    """Tell whether new connections are taken and told that it is not ready."""
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            async with session.get(f"{place.url}/readyz") as answer:
                if answer.status == 503 and await answer.text() == "draining\n":
                    return True
            await asyncio.sleep(0.01)
    return False


async def _closed_to_new(place: Place) -> None:
    async with asyncio.timeout(DELAY + 10):
        while True:
            peer = Peer()
            try:
                await peer.connect(place.port)
            except ConnectionRefusedError:
                return
            finally:
                peer.close()
            await asyncio.sleep(0.05)


def _events(place: Place) -> list[str]:
    events = []
    for line in place.gateway.log.read_text().splitlines():
        with contextlib.suppress(ValueError, KeyError):
            events.append(str(json.loads(line)["event"]))
    return events


@pytest.mark.parametrize("taken", [MiB, 8 * MiB])
async def test_a_reader_that_leaves_stops_the_reading_of_the_store(
    place: Place, token: str, record_property: Callable[[str, object], None], taken: int
) -> None:
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(256 * MiB))
        before = await place.holdings()
        read = place.bytes_read()
        peer = await Peer().connect(place.port)
        await peer.request("GET", f"{above}/large", token)
        while peer.received < taken:
            await peer.take(65536)
        peer.drop()
        await quiet(place, before)
        over = place.bytes_read() - read - peer.received
    record_property("read beyond what was taken", over)
    # Blocks of 1 MiB, one more than the client took of, and what kernel and transport had in store.
    assert over < 4 * MiB
