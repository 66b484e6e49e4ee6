"""One load a key, however many wait; failures and cancellations stay their own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyservice.errors import Unavailable
from keyservice.keys.flight import FlightCache, Loaded
from tests.unit.keyservice.fakes import FakeClock


def loading(
    clock: FakeClock, calls: list[str], value: bytes, *, ttl: float = 10
) -> Callable[[], Awaitable[Loaded[bytes]]]:
    async def load() -> Loaded[bytes]:
        calls.append("load")
        await asyncio.sleep(0)
        return Loaded(value, clock.now + ttl)

    return load


async def test_a_thousand_waiters_make_one_load() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    load = loading(clock, calls, b"v")
    found = await asyncio.gather(*(cache.get("k", load) for _ in range(1000)))
    assert {entry.value for entry in found} == {b"v"}
    assert calls == ["load"]


async def test_keys_do_not_wait_for_each_other() -> None:
    cache: FlightCache[str, bytes] = FlightCache(10)
    never = asyncio.Event()

    async def stuck() -> Loaded[bytes]:
        await never.wait()
        raise AssertionError

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(cache.get("slow", stuck))
        await asyncio.sleep(0)
        assert (await cache.get("fast", loading(FakeClock(), [], b"v", ttl=1e12))).value == b"v"
        slow.cancel()


async def test_an_entry_ends_at_its_deadline() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    load = loading(clock, calls, b"v", ttl=10)
    await cache.get("k", load)
    clock.now += 9.999
    await cache.get("k", load)
    assert len(calls) == 1
    clock.now += 0.001
    await cache.get("k", load)
    assert len(calls) == 2


async def test_nothing_is_kept_without_time() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    for _ in range(2):
        await cache.get("k", loading(clock, calls, b"v", ttl=0))
    assert len(calls) == 2
    assert len(cache) == 0


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)

    async def fail() -> Loaded[bytes]:
        calls.append("fail")
        await asyncio.sleep(0)
        raise Unavailable("gone")

    found = await asyncio.gather(*(cache.get("k", fail) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in found)
    assert calls == ["fail"]
    assert (await cache.get("k", loading(clock, calls, b"v"))).value == b"v"


async def test_a_cancelled_first_waiter_takes_nobody_down() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    go = asyncio.Event()

    async def load() -> Loaded[bytes]:
        calls.append("load")
        await go.wait()
        return Loaded(b"v", clock.now + 1)

    tasks = [asyncio.ensure_future(cache.get("k", load)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [entry.value for entry in found[1:] if isinstance(entry, Loaded)] == [b"v"] * 9
    assert calls == ["load", "load"]  # the second leader's


async def test_a_cancelled_later_waiter_does_not_cancel_the_load() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    load = loading(clock, calls, b"v")
    tasks = [asyncio.ensure_future(cache.get("k", load)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(entry).__name__ for entry in found] == ["Loaded", "CancelledError", "Loaded"]
    assert calls == ["load"]


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 8), st.floats(0, 5)), max_size=60))
def test_it_is_bounded_and_never_serves_what_is_over(
    capacity: int, steps: list[tuple[int, float]]
) -> None:
    async def run() -> None:
        clock = FakeClock()
        cache: FlightCache[int, tuple[int, float]] = FlightCache(capacity, clock)
        for key, pause in steps:

            async def load(key: int = key) -> Loaded[tuple[int, float]]:
                return Loaded((key, clock.now), clock.now + 3)

            found = (await cache.get(key, load)).value
            assert found[0] == key
            assert clock.now - found[1] < 3 or found[1] == clock.now
            assert len(cache) <= capacity
            clock.now += pause

    asyncio.run(run())


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        FlightCache(0)


def test_a_loaded_value_is_not_shown() -> None:
    assert "secret" not in repr(Loaded(b"secret", 1.0))


async def test_what_was_dropped_is_loaded_again() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    load = loading(clock, calls, b"v")
    for key in ("a", "b"):
        await cache.get(key, load)
    cache.drop(lambda key: key == "a")
    for key in ("a", "b"):
        await cache.get(key, load)
    assert len(calls) == 3


async def test_a_load_under_way_is_neither_kept_nor_joined_after_a_drop() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> Loaded[bytes]:
        begun.set()
        await go.wait()
        return Loaded(b"before", clock.now + 10)

    first = asyncio.create_task(cache.get("k", slow))
    await begun.wait()
    waiting = asyncio.create_task(cache.get("k", slow))
    await asyncio.sleep(0)
    cache.drop(lambda _: True)
    assert (await cache.get("k", loading(clock, calls, b"after"))).value == b"after"
    go.set()
    assert (await first).value == (await waiting).value == b"before"  # who asked before
    assert (await cache.get("k", loading(clock, calls, b"again"))).value == b"after"


async def test_only_what_was_seen_is_discarded() -> None:
    clock, calls = FakeClock(), list[str]()
    cache: FlightCache[str, bytes] = FlightCache(10, clock)
    old = await cache.get("k", loading(clock, calls, b"old"))
    cache.drop(lambda _: True)
    new = await cache.get("k", loading(clock, calls, b"new"))
    cache.discard("k", old)
    assert await cache.get("k", loading(clock, calls, b"none")) is new
    cache.discard("k", new)
    assert len(cache) == 0
