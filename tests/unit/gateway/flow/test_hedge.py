"""A second target is asked when the first is slow to begin; whoever begins first is read."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.attachments.downloads import Downloads
from gateway.errors import ObjectMissing, StoreError, StoreUnavailable
from gateway.flow.hedge import Budget
from gateway.targets.replica import Haste
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench

AFTER = 0.1


class Late(FaultyStore):
    """Begins its first read once all these have happened, or fails then; counts reads and ended ones."""

    def __init__(self, *until: asyncio.Event, error: StoreError | None = None) -> None:
        super().__init__()
        self.until, self.error = until, error
        self.asked, self.over = asyncio.Event(), asyncio.Event()
        self.reads = self.ended = 0

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        self.reads += 1
        self.asked.set()
        try:
            for event in self.until if self.reads == 1 else ():
                await event.wait()
            if self.error is not None:
                raise self.error
            async with aclosing(super().read(key, start, stop)) as pieces:
                async for each in pieces:
                    yield each
        finally:
            self.ended += 1
            self.over.set()


class Count:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.hedges: list[bool] = []
        self.failures: list[tuple[str, str]] = []

    def began(self, target: str, seconds: float) -> None:
        assert target
        assert seconds >= 0

    def hedged(self, *, won: bool) -> None:
        self.hedges.append(won)

    def replica_failed(self, target: str, reason: str) -> None:
        self.failures.append((target, reason))


async def stored(bench: Bench, *stores: Late) -> bytes:
    bench.primary, bench.east, bench.west = stores
    content = os.urandom(4 * PART)
    await bench.store(content)
    return content


async def read(bench: Bench, count: Count, after: float = AFTER) -> bytes:
    downloads = Downloads(
        bench.catalog,
        bench.keys,
        lambda: bench.targets,
        haste=Haste(60.0, silence=60.0),
        hedge_after=after,
        watch=count,
    )
    opened = await downloads.open(await bench.catalog.find(bench.tenant, "report"), request_id="")
    async with aclosing(downloads.read(opened, 0, opened.size)) as stream:
        return b"".join([piece async for piece in stream])


async def test_a_quick_target_is_asked_alone(bench: Bench) -> None:
    content, count = await stored(bench, Late(), Late(), Late()), Count()

    assert await read(bench, count, after=60.0) == content

    assert count.hedges == []
    assert bench.east.reads == 0  # type: ignore[attr-defined]


async def test_the_second_wins_over_a_slow_first(bench: Bench) -> None:
    slow, quick, idle = Late(asyncio.Event()), Late(), Late()
    content, count = await stored(bench, slow, quick, idle), Count()

    assert await read(bench, count) == content

    assert count.hedges == [True]
    assert (slow.reads, slow.ended, quick.reads, idle.reads) == (1, 1, 1, 0)
    assert slow.bytes_read == 0


async def test_the_first_wins_when_the_second_is_slower_still(bench: Bench) -> None:
    slower, idle = Late(asyncio.Event()), Late()
    slow = Late(slower.asked)
    content, count = await stored(bench, slow, slower, idle), Count()

    assert await read(bench, count) == content

    assert count.hedges == [False]
    assert (slow.reads, slower.reads, slower.ended, idle.reads) == (1, 1, 1, 0)


async def test_a_second_that_fails_leaves_the_race_to_the_first(bench: Bench) -> None:
    second = Late(error=StoreUnavailable("down"))
    stores = Late(second.over), second, Late()
    content, count = await stored(bench, *stores), Count()

    assert await read(bench, count) == content

    assert count.failures == [("east", "unavailable")]
    assert [store.reads for store in stores] == [1, 1, 0]


async def test_a_first_that_fails_late_leaves_the_race_to_the_second(bench: Bench) -> None:
    first, second = Late(error=ObjectMissing()), Late()
    first.until, second.until = (second.asked,), (first.over,)
    stores = first, second, Late()
    content, count = await stored(bench, *stores), Count()

    assert await read(bench, count) == content

    assert count.failures == [("primary", "absent")]
    assert count.hedges == [True]


async def test_when_both_fail_the_third_is_read(bench: Bench) -> None:
    down = StoreUnavailable("down")
    first, second = Late(error=down), Late(error=down)
    first.until, second.until = (second.asked,), (first.over,)
    stores = first, second, Late()
    content, count = await stored(bench, *stores), Count()

    assert await read(bench, count) == content

    assert sorted(count.failures) == [("east", "unavailable"), ("primary", "unavailable")]
    assert [store.reads for store in stores] == [1, 1, 1]


async def test_the_overtaken_one_is_still_there_to_go_on_from(bench: Bench) -> None:
    late, breaking, none = Late(asyncio.Event()), Late(), Late(error=StoreUnavailable("down"))
    content, count = await stored(bench, late, breaking, none), Count()
    breaking.read_limit, breaking.read_fault = 2 * PART, StoreUnavailable("cut")

    assert await read(bench, count) == content

    assert (late.reads, breaking.reads) == (2, 1)


def test_in_the_long_run_a_tenth_is_asked_twice() -> None:
    budget = Budget(most=5)
    assert [budget.take() for _ in range(7)] == [True] * 5 + [False] * 2
    taken = 0
    for _ in range(1000):
        budget.earn()
        taken += budget.take()
    assert 95 <= taken <= 101


async def test_without_budget_the_first_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.attachments.downloads.Budget", lambda: Budget(most=0))
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(3 * AFTER, passed.set)
    slow, idle = Late(passed), Late()
    content, count = await stored(bench, slow, idle, Late()), Count()

    assert await read(bench, count) == content

    assert count.hedges == []
    assert (slow.reads, idle.reads) == (1, 0)


async def test_a_reader_that_leaves_closes_both(bench: Bench) -> None:
    stores = Late(asyncio.Event()), Late(asyncio.Event()), Late()
    await stored(bench, *stores)

    reading = asyncio.ensure_future(read(bench, Count()))
    await stores[1].asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert [(store.reads, store.ended) for store in stores] == [(1, 1), (1, 1), (0, 0)]
