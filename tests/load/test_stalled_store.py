"""A store that stalls, and a reader that leaves: others are served, and what waits is bounded."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.load.conftest import NewPlace, on_folders
from tests.load.counting import CountingWire
from tests.load.peers import Peer
from tests.load.place import eventually, quiet
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket

STALL = 1.0  # seconds without a byte after which a bucket's request is tried again
BOUND = 60.0  # seconds for four tries, each as long as a stall, on a busy machine
PARTS = 24 * MiB  # what an upload may hold
LARGE = 24 * MiB


@pytest.mark.timeout(300)
async def test_a_stalled_store_holds_neither_other_targets_nor_memory(
    tmp_path: Path,
    new_place: NewPlace,
    new_s3: Callable[[], Versitygw],
    record_property: Callable[[str, object], None],
) -> None:
    server = await asyncio.to_thread(new_s3)
    primary = Bucket(server, server.new_bucket())
    place = await new_place(
        tmp_path,
        **on_folders(
            tmp_path,
            targets={"primary": primary, "cellar": tmp_path / "cellar"},
            extra={"limits": {"stall_timeout": STALL, "silence": STALL}},
        ),
    )
    token = place.admin_token()
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(LARGE))
        await client.json("PUT", f"{above}/small", data=b"small")
        whole = await digest_of(generated(LARGE))
        assert await client.digest(f"{above}/large") == whole
        before, idle = await place.holdings(), place.memory()

        midway = _Midway()
        downloading = asyncio.ensure_future(midway.digest(client, f"{above}/large"))
        await midway.begun.wait()
        server.pause()
        midway.paused.set()
        try:
            # Both begin; neither may keep the other, or what needs no store.
            waiting = [
                downloading,
                asyncio.ensure_future(client.digest(f"{above}/large")),
                *(asyncio.ensure_future(_upload(client, f"{above}/new-{n}")) for n in range(4)),
            ]
            quick: list[float] = []
            peak = 0
            async with asyncio.timeout(BOUND):
                while not all(each.done() for each in waiting) or not quick:
                    began = time.monotonic()
                    async with client.request("GET", f"{above}/small") as answer:
                        assert await answer.read() == b"small"
                    quick.append(time.monotonic() - began)
                    peak = max(peak, place.memory())
                    await asyncio.sleep(0.1)
        finally:
            server.resume()
        begun, digest, *statuses = [each.result() for each in waiting]
        record_property("longest_silence", round(midway.longest, 2))

        assert begun == digest == whole  # from the other target
        assert STALL / 2 < midway.longest < BOUND / 2
        assert set(statuses) == {503}
        assert min(quick) < STALL
        assert peak - idle < 4 * PARTS + 32 * MiB
        await client.json("PUT", f"{above}/new", data=generated(LARGE))
        listed = (await client.json("GET", above))["attachments"]
        assert {each["attachment"] for each in listed} == {"large", "small", "new"}
    await eventually(lambda: not place.uploads(), within=60)
    await quiet(place, before)


class _Midway:
    """A download that has begun when the store stalls; the longest that it waited for a piece."""

    def __init__(self) -> None:
        self.begun, self.paused = asyncio.Event(), asyncio.Event()
        self.longest = 0.0

    async def digest(self, client: Client, path: str) -> str:
        """Take a little, wait for the stall, and take the rest."""
        running = hashlib.sha256()
        async with client.request("GET", path) as answer:
            running.update(await answer.content.readexactly(MiB))
            self.begun.set()
            await self.paused.wait()
            while True:
                asked = time.monotonic()
                piece = await answer.content.readany()
                self.longest = max(self.longest, time.monotonic() - asked)
                if not piece:
                    return running.hexdigest()
                running.update(piece)


async def _upload(client: Client, path: str) -> int:
    async with client.request("PUT", path, data=generated(LARGE)) as answer:
        await answer.read()
        return int(answer.status)


@pytest.mark.timeout(300)
async def test_a_reader_that_leaves_stops_the_reading_of_a_bucket(
    tmp_path: Path,
    new_place: NewPlace,
    s3: Versitygw,
    record_property: Callable[[str, object], None],
) -> None:
    async with CountingWire(s3) as wire:
        place = await new_place(
            tmp_path,
            **on_folders(tmp_path, targets={"primary": Bucket(wire, s3.new_bucket())}),
        )
        token = place.admin_token()
        async with place.tenant(token) as (client, above):
            await client.json("PUT", f"{above}/large", data=generated(128 * MiB))
            before, sent = await place.holdings(), wire.sent
            peer = await Peer().connect(place.port)
            await peer.request("GET", f"{above}/large", token)
            while peer.received < 4 * MiB:
                await peer.take(65536)
            peer.drop()
            await quiet(place, before)
            over = wire.sent - sent - peer.received
            await asyncio.sleep(0.5)
            assert wire.sent - sent - peer.received == over
        await asyncio.to_thread(place.gateway.stop)
    record_property("read beyond what was taken", over)
    # Buffers of the gateway, of aiohttp, and of the kernel on three connections.
    assert over < 16 * MiB
