"""How soon a download leaves a target that refuses or is silent, and whom the next one asks."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.attachments.downloads import Downloads
from gateway.errors import ObjectMissing, StoreDamaged, StoreError, StoreUnavailable, Unreadable
from gateway.stores.retrying import RetryingStore
from gateway.targets.replica import Haste
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench

FIRST_BYTE = 0.2
HASTE = Haste(FIRST_BYTE, silence=0.2)
PATIENT = Haste(60.0, silence=60.0)  # where a busy machine may not be the one that is silent


class Tried(FaultyStore):
    """Fails the first reads that its list names, or is silent (None); counts all of them."""

    def __init__(self, faults: list[StoreError | None]) -> None:
        super().__init__()
        self.faults = faults
        self.reads = 0

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        self.reads += 1
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault
            await asyncio.sleep(60)
        async with aclosing(super().read(key, start, stop)) as pieces:
            async for each in pieces:
                yield each


async def no_sleep(_: float) -> None:
    """Pause for no time."""


async def stored(bench: Bench, *faults: list[StoreError | None]) -> tuple[bytes, list[Tried]]:
    """Store something on as many targets as there are lists, with the faults that they then have."""
    tried = [Tried(list(each)) for each in faults]
    bench.primary, bench.east, bench.west = tried
    content = os.urandom(2 * PART)
    await bench.store(content)
    for name, each in zip(("primary", "east", "west"), tried, strict=True):
        setattr(bench, name, RetryingStore(each, sleep=no_sleep))
    return content, tried


async def read(bench: Bench, downloads: Downloads) -> bytes:
    found = await bench.catalog.find(bench.tenant, "report")
    opened = await downloads.open(found, request_id="")
    async with aclosing(downloads.read(opened, 0, opened.size)) as stream:
        return b"".join([piece async for piece in stream])


def made(bench: Bench, haste: Haste = PATIENT) -> Downloads:
    return Downloads(bench.catalog, bench.keys, lambda: bench.targets, haste=haste)


@pytest.mark.parametrize("fault", [StoreUnavailable("refused"), None], ids=["refused", "silent"])
async def test_a_target_that_does_not_answer_is_left_at_once_and_then_asked_last(
    bench: Bench, fault: StoreError | None
) -> None:
    content, (primary, east, _) = await stored(bench, [fault] * 9, [], [])
    downloads = made(bench, PATIENT if fault else HASTE)
    begun = time.monotonic()
    assert await read(bench, downloads) == content
    assert time.monotonic() - begun < 30
    assert primary.reads == 1
    for _ in range(5):
        assert await read(bench, downloads) == content
    assert (primary.reads, east.reads) == (1, 6)


@pytest.mark.parametrize("fault", [ObjectMissing(), StoreDamaged()])
async def test_what_is_wrong_with_one_body_is_not_held_against_the_target(
    bench: Bench, fault: StoreError
) -> None:
    content, (primary, _, _) = await stored(bench, [fault], [], [])
    downloads = made(bench)
    assert await read(bench, downloads) == content
    assert await read(bench, downloads) == content
    assert primary.reads == 2


async def test_when_nobody_is_left_those_out_of_reach_are_tried_again(bench: Bench) -> None:
    down = StoreUnavailable("down")
    content, (primary, east, west) = await stored(
        bench, [down, down, down], [ObjectMissing()], [down] * 9
    )
    assert await read(bench, made(bench)) == content
    assert (primary.reads, east.reads, west.reads) == (4, 1, 1)


async def test_the_last_one_may_be_slow(bench: Bench) -> None:
    class Slow(Tried):
        async def read(
            self, key: str, start: int = 0, stop: int | None = None
        ) -> AsyncGenerator[bytes]:
            await asyncio.sleep(2 * FIRST_BYTE)
            async with aclosing(super().read(key, start, stop)) as pieces:
                async for each in pieces:
                    yield each

    bench.primary, bench.east, bench.west = Slow([]), Slow([]), Slow([])
    content = os.urandom(PART)
    await bench.store(content)
    assert await read(bench, made(bench, HASTE)) == content


class Pausing(Tried):
    """Falls silent in the middle of every read, for a while."""

    def __init__(self, after: int, pause: float) -> None:
        super().__init__([])
        self.after, self.pause = after, pause

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        left = self.after
        async with aclosing(super().read(key, start, stop)) as pieces:
            async for each in pieces:
                if left <= 0:
                    await asyncio.sleep(self.pause)
                left -= len(each)
                yield each


async def test_a_target_that_falls_silent_is_left_for_another_at_the_same_byte(
    bench: Bench,
) -> None:
    bench.primary, bench.east, bench.west = Pausing(PART, 60), Tried([]), Tried([])
    content = os.urandom(8 * PART)
    await bench.store(content)
    begun = time.monotonic()
    assert await read(bench, made(bench, HASTE)) == content
    assert time.monotonic() - begun < 30
    assert (bench.primary.reads, bench.east.reads) == (1, 1)
    assert bench.east.bytes_read < len(content)


async def test_the_last_one_may_fall_silent_as_long_as_the_store_lets_it(bench: Bench) -> None:
    bench.primary, bench.east, bench.west = (Pausing(PART, 3 * HASTE.silence) for _ in range(3))
    content = os.urandom(2 * PART)
    await bench.store(content)
    assert await read(bench, made(bench, HASTE)) == content


async def test_a_slow_reader_is_no_silent_store(bench: Bench) -> None:
    bench.primary, bench.east, bench.west = Tried([]), Tried([]), Tried([])
    await bench.store(os.urandom(4 * PART))
    opened = await made(bench, HASTE).open(
        await bench.catalog.find(bench.tenant, "report"), request_id=""
    )
    async with aclosing(made(bench, HASTE).read(opened, 0, opened.size)) as stream:
        async for _ in stream:
            await asyncio.sleep(1.5 * HASTE.silence)
            if bench.primary.bytes_read > PART:
                break
    assert (bench.primary.reads, bench.east.reads) == (1, 0)


async def test_a_total_failure_is_told_with_all_who_were_tried(bench: Bench) -> None:
    down: list[StoreError | None] = [StoreUnavailable("down")] * 99
    _, tried = await stored(bench, down, down, down)
    with pytest.raises(Unreadable, match="tried: primary, east, west"):
        await read(bench, made(bench))
    assert [each.reads for each in tried] == [5, 5, 5]  # in haste, then as often as the policy says
