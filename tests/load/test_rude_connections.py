"""Connections that never ask, hardly move, or vanish: cut in time, nothing left, others served."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.load.conftest import GRACE, HEAD_TIMEOUT
from tests.load.peers import Cut, Peer
from tests.load.place import Place, eventually, quiet
from tests.stack.client import Client, MiB, generated

SLACK = 60.0  # seconds for a busy machine


async def connected(place: Place, count: int) -> list[Peer]:
    return [await Peer().connect(place.port) for _ in range(count)]


async def answered(peer: Peer) -> int | None:
    """Return the status of the answer, None when the connection is cut without one."""
    try:
        return await peer.head()
    except Cut:
        return None


async def served_meanwhile(client: Client, path: str, waiting: "asyncio.Task[object]") -> int:
    """Ask for ordinary requests until `waiting` ends; return how many were answered."""
    served = 0
    while not waiting.done():
        async with client.request("GET", path) as answer:
            assert answer.status == 200
            assert await answer.read() == b"small"
        served += 1
        await asyncio.sleep(0.05)
    return served


async def test_heads_that_never_end_are_cut_while_others_are_served(
    place: Place, token: str
) -> None:
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/small", data=b"small")
        before = await place.holdings()
        began = time.monotonic()
        peers = await connected(place, 200)

        async def drip(peer: Peer) -> None:
            """Keep a head growing, one field at a time, as slow-loris does."""
            with contextlib.suppress(Cut):
                await peer.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
                for number in range(1000):
                    await peer.send(f"X-{number}: x\r\n".encode())
                    await asyncio.sleep(0.5)

        async def all_cut() -> None:
            async with asyncio.TaskGroup() as group:
                for peer in peers:
                    group.create_task(drip(peer))
                    group.create_task(peer.until_cut())

        waiting = asyncio.ensure_future(all_cut())
        served = await served_meanwhile(client, f"{above}/small", waiting)
        took = time.monotonic() - began
        await waiting

    assert HEAD_TIMEOUT <= took < HEAD_TIMEOUT + SLACK
    assert served >= 2  # of what was asked first, while all of them were open
    for peer in peers:
        peer.close()
    await quiet(place, before)


async def test_connections_that_never_say_anything_are_cut_too(place: Place) -> None:
    before = await place.holdings()
    peers = await connected(place, 50)
    async with asyncio.timeout(HEAD_TIMEOUT + SLACK):
        assert await asyncio.gather(*(peer.until_cut() for peer in peers)) == [b""] * len(peers)
    for peer in peers:
        peer.close()
    await quiet(place, before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [MiB, 40 * MiB])
async def test_uploads_below_the_rate_are_refused_and_leave_nothing(
    place: Place, token: str, size: int
) -> None:
    async with place.tenant(token) as (client, above):
        before = await place.holdings()
        peers = await connected(place, 20)

        async def upload(number: int, peer: Peer) -> int | None:
            path = f"{above}/slow-{number}"
            await peer.request("PUT", path, token, f"Content-Length: {size}")
            with contextlib.suppress(Cut):
                # Most of a large one comes fast, so that parts of it are stored already.
                for _ in range(size // MiB // 2):
                    await peer.send(bytes(MiB))
            answer = asyncio.ensure_future(answered(peer))
            with contextlib.suppress(Cut):
                while not answer.done():
                    await peer.send(b"x" * 10)  # 20 bytes a second
                    await asyncio.sleep(0.5)
            return await answer

        async with asyncio.timeout(4 * GRACE + SLACK):
            answers = await asyncio.gather(*(upload(n, p) for n, p in enumerate(peers)))

        assert set(answers) <= {408, None}
        assert any(answers)
        assert (await client.json("GET", above))["attachments"] == []
    for peer in peers:
        peer.close()
    await eventually(lambda: not place.uploads())
    await eventually(lambda: not objects(place, above))
    await quiet(place, before)


async def test_readers_that_take_nothing_are_cut(place: Place, token: str) -> None:
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(16 * MiB))
        before = await place.holdings()
        peers = await connected(place, 20)
        for peer in peers:
            await peer.request("GET", f"{above}/large", token)
            assert await peer.head() == 200

        until = time.monotonic() + GRACE + SLACK
        while await place.running():  # they take not a byte, not even the end of the connection
            assert time.monotonic() < until
            await asyncio.sleep(0.2)

    for peer in peers:
        peer.close()
    await quiet(place, before)


@pytest.mark.parametrize("connections", [1000])
async def test_connections_opened_and_dropped_leave_nothing(
    place: Place, token: str, connections: int
) -> None:
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(8 * MiB))
    before = await place.holdings()

    async def rude(number: int) -> None:
        peer = await Peer().connect(place.port)
        kind = number % 6
        if kind == 1:
            await peer.send(b"GET /livez HTT")
        elif kind == 2:
            await peer.request("GET", f"{above}/large", token)
        elif kind == 3:
            await peer.request("GET", f"{above}/large", token)
            await peer.head()
        elif kind == 4:
            await peer.request("PUT", f"{above}/{number}", token, "Content-Length: 100000")
            await peer.send(bytes(50_000))
        elif kind == 5:
            await peer.request("GET", "/livez", token)
        if number % 2:
            peer.drop()
        else:
            peer.close()

    for first in range(0, connections, 50):
        await asyncio.gather(*(rude(number) for number in range(first, first + 50)))

    await quiet(place, before)
    await eventually(lambda: not place.uploads())
    async with Client(place.url, token) as client:
        names = [each["attachment"] for each in (await client.json("GET", above))["attachments"]]
    assert names == ["large"]
    assert len(objects(place, above)) == 2


def objects(place: Place, above: str) -> list[str]:
    """Name every file that the store has of the tenant in a path, finished or not."""
    (folder,) = place.targets.values()
    assert isinstance(folder, Path)
    tenant = above.split("/")[3]
    return [str(file) for file in folder.rglob("*") if file.is_file() and tenant in str(file)]
