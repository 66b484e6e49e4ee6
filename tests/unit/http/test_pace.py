"""A peer's credit: earned by bytes, spent by waiting, never more than the grace."""

import asyncio

import pytest

from gateway.errors import TooSlow
from gateway.http.pace import Pace


async def test_a_peer_that_stalls_is_cut_after_its_grace() -> None:
    pace = Pace(rate=1000, grace=0.05)

    with pytest.raises(TooSlow, match="1000 bytes a second"):
        await pace.wait(asyncio.sleep(5))


async def test_a_peer_below_the_rate_runs_out_of_credit() -> None:
    pace, steps = Pace(rate=1_000_000, grace=0.05), 0

    async def drip() -> None:
        nonlocal steps
        while True:
            await pace.wait(asyncio.sleep(0.01))
            pace.moved(1)
            steps += 1

    with pytest.raises(TooSlow):
        await drip()
    assert steps < 10


async def test_a_peer_above_the_rate_goes_on() -> None:
    pace = Pace(rate=1000, grace=0.05)

    for _ in range(20):
        await pace.wait(asyncio.sleep(0.005))
        pace.moved(100)


async def test_credit_does_not_pile_up() -> None:
    pace = Pace(rate=1, grace=0.05)
    pace.moved(1_000_000)

    with pytest.raises(TooSlow):
        await pace.wait(asyncio.sleep(5))
