"""A rate over any stretch of time, on a clock that only its sleepers move."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.pacing.rate import Rate


class Time:
    """A clock that moves as far as somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def paced(time: Time, size: float = 0, requests: float = 0) -> Rate:
    return Rate(size, requests, clock=time.clock, sleep=time.sleep)


async def test_without_a_limit_nobody_waits() -> None:
    time = Time()
    rate = paced(time)
    for _ in range(100):
        await rate.take(1 << 40, 1000)
    assert time.now == 100


async def test_a_burst_is_one_second_of_the_rate_however_long_the_rest() -> None:
    time = Time()
    rate = paced(time, 1000)
    await rate.take(1000)
    await rate.take(0)
    time.now += 3600
    await rate.take(1000)
    assert time.now == 3700
    await rate.take(1)
    await rate.take(1)
    assert 3700 < time.now < 3700.01


async def test_what_is_larger_than_the_burst_goes_through_and_is_paid_for() -> None:
    time = Time()
    rate = paced(time, 1000)
    await rate.take(10_000)
    assert time.now == 100
    await rate.take(1)
    assert time.now == 109


async def test_the_scarcer_of_both_counts() -> None:
    time = Time()
    rate = paced(time, 1_000_000, 2)
    for _ in range(9):
        await rate.take(1, 1)
    assert time.now == 103


async def test_those_who_come_at_once_share() -> None:
    time = Time()
    rate = paced(time, 1000)
    await asyncio.gather(*(rate.take(500) for _ in range(11)))
    assert time.now == 104


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5000)), max_size=40))
def test_no_stretch_of_time_gets_more_than_its_share(steps: list[tuple[float, int]]) -> None:
    async def take() -> None:
        time, taken = Time(), list[tuple[float, int]]()
        rate = paced(time, 1000)
        for pause, size in steps:
            time.now += pause
            await rate.take(size)
            taken.append((time.now, size))
        for first in range(len(taken)):
            for last in range(first, len(taken)):
                span = taken[last][0] - taken[first][0]
                # The last one is let through in advance.
                total = sum(size for _, size in taken[first:last])
                assert total <= 1000 * (span + 1) + 0.01

    asyncio.run(take())
