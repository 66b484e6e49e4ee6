"""Writing rewrapped envelopes to targets: what is due, what is in the way, and what may not be touched."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from awscrt.checksums import crc64nvme
from sqlalchemy import Connection, delete, update

from envelope.envelope import Envelope, Wrap, decode, encode
from envelope.wrap import wrap
from gateway.catalog import tables
from gateway.errors import StoreDamaged, StoreUnavailable
from gateway.ports import Piece, Stale
from gateway.rotation.pushing import Pushed
from tests.doubles.rotating import Tool, keks_on
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import Bench

CONTENT = bytes(range(256)) * 40


@pytest.fixture
async def tool(bench: Bench) -> Tool:
    """Give a tool, with four envelopes rewrapped that no target has yet."""
    for number in range(4):
        await bench.store(CONTENT[: 100 if number % 2 else None], f"report {number}")
    await bench.background.settle()
    made = Tool(bench.catalog, bench.keys, bench.targets)
    old = bench.keys.current(bench.tenant)
    await bench.keys.rotate_kek(bench.tenant, old, reason="")
    await made.move(bench.tenant, old)
    return made


async def left(bench: Bench, target: str) -> int:
    return (await bench.catalog.wraps.backlog(target)).copies


async def test_a_worker_writes_what_a_target_lacks_and_tells_what_is_left(
    bench: Bench, tool: Tool
) -> None:
    assert await left(bench, "east") == 4
    told: list[dict[str, int]] = []

    async def tell(progress: Mapping[str, int]) -> None:
        told.append(dict(progress))

    done = await tool.pushing.shift("east", tell)
    assert told == [{"pushed": 4, "failed": 0}]
    assert done == {"pushed": 4, "overtaken": 0, "failed": 0, "away": False}
    assert tool.told.left == {"east": 0}
    assert tool.told.done == ["east"] * 4
    current = frozenset({bench.keys.current(bench.tenant)})
    assert set((await keks_on(bench.east)).values()) == {current}
    assert await left(bench, "west") == 4
    again = await tool.pushing.shift("east")
    assert again == {"pushed": 0, "overtaken": 0, "failed": 0, "away": False}


async def test_one_that_fails_by_itself_is_in_nobodys_way(bench: Bench, tool: Tool) -> None:
    bad = next(key for key in bench.east.keys if key.endswith("envelope"))
    real = bench.east.replace

    async def refuse(key: str, piece: Piece) -> None:
        if key == bad:
            raise StoreUnavailable("this one is slow")
        await real(key, piece)

    bench.east.replace = refuse  # type: ignore[method-assign]
    tally = Pushed()
    await tool.pushing.push("east", tally)
    assert (tally.pushed, tally.failed, tally.away) == (3, 1, False)
    assert tool.told.failures == [("east", "target")]
    await tool.pushing.push("east", tally)  # not due yet
    assert tally.failed == 1
    assert await left(bench, "east") == 1


async def test_a_target_that_is_away_costs_its_rows_nothing(bench: Bench, tool: Tool) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("away")

    real = bench.east.replace, bench.east.check
    bench.east.replace = bench.east.check = away  # type: ignore[method-assign,assignment]
    tally = Pushed()
    await tool.pushing.push("east", tally)
    assert (tally.pushed, tally.away) == (0, True)
    bench.east.replace, bench.east.check = real  # type: ignore[method-assign]
    await tool.pushing.push("east", tally)  # due at once, and under no lease
    assert (tally.pushed, tally.away) == (4, False)


async def test_bytes_that_arrive_damaged_are_sent_again_later(bench: Bench, tool: Tool) -> None:
    async def damaged(*_: object) -> None:
        raise StoreDamaged("other bytes")

    bench.east.replace = damaged  # type: ignore[method-assign,assignment]
    tally = Pushed()
    await tool.pushing.push("east", tally)
    assert (tally.pushed, await left(bench, "east")) == (0, 4)


async def test_nobody_writes_after_the_lease(bench: Bench, tool: Tool) -> None:
    started = asyncio.Event()

    async def slow(*_: object) -> None:
        started.set()
        await asyncio.sleep(60)

    bench.east.replace = slow  # type: ignore[method-assign,assignment]
    tool.lease = 1.5
    tally = Pushed()
    async with asyncio.timeout(60):
        await tool.pushing.push("east", tally)
    assert started.is_set()
    assert tally.pushed == 0
    assert set(tool.told.failures) == {("east", "lease")}
    assert await left(bench, "east") == 4


async def test_a_copy_that_is_newer_than_the_catalog_is_left_as_it_is(
    bench: Bench, tool: Tool
) -> None:
    """The catalog came back from a copy of before a rotation, and the target has the wrap of after it."""
    found = await bench.catalog.find(bench.tenant, "report 0")
    key = f"t/{bench.tenant}/{found.version.blob}/envelope"
    known = decode(found.version.envelope)
    ahead = known.newest.created + 1
    later = encode(Envelope(known.core, known.attributes, (wrapped(ahead),)))
    await put_over(bench.east, key, later)
    (stale,) = [
        each
        for each in await bench.catalog.wraps.claim_stale(
            tenant=None, targets=["east"], lease=timedelta(seconds=60), limit=100
        )
        if each.version.id == found.version.id
    ]
    tally = Pushed()
    await write(tool, replace(stale, unsure=True), tally)
    assert tool.told.failures == [("east", "newer")]
    assert (await keks_on(bench.east))[key] == {"elsewhere/2"}
    earlier = encode(Envelope(known.core, known.attributes, (wrapped(ahead - 2),)))
    await put_over(bench.east, key, earlier)
    await write(tool, replace(stale, unsure=True), tally)
    assert (await keks_on(bench.east))[key] == {bench.keys.current(bench.tenant)}


def wrapped(created: int) -> Wrap:
    """Wrap some key under a KEK that this catalog has never heard of."""
    return Wrap("elsewhere/2", wrap(b"k" * 32, "elsewhere/2", b"d" * 32, b"context"), created)


async def put_over(store: FaultyStore, key: str, data: bytes) -> None:
    await store.replace(key, Piece(memoryview(data), crc64nvme(data)))


async def write(tool: Tool, stale: Stale, tally: Pushed) -> None:
    ends = asyncio.get_running_loop().time() + 30
    await tool.pushing._batch([stale], ends, tally)


async def test_what_a_catalog_has_forgotten_keeps_its_envelopes(bench: Bench, tool: Tool) -> None:
    """A catalog that came back from an older copy meanwhile knows nothing of what was purged, or was not."""
    real, before = bench.east.replace, set(bench.east.keys)

    def forget(connection: Connection) -> None:
        connection.execute(update(tables.attachments).values(current=None))
        for table in (tables.stale, tables.replicas, tables.replaced, tables.versions):
            connection.execute(delete(table))

    async def rolled_back(key: str, piece: Piece) -> None:
        await real(key, piece)
        await bench.catalog._database.write(forget)

    bench.east.replace = rolled_back  # type: ignore[method-assign]
    tally = Pushed()
    await tool.pushing.push("east", tally)
    assert tally.overtaken
    assert set(bench.east.keys) == before
