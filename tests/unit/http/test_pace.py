"""A peer's credit: earned by bytes, spent by waiting, never more than the grace."""

import asyncio
import time

import pytest

from gateway.errors import TooSlow
from gateway.http.pace import Pace, unsent


async def test_a_peer_that_stalls_is_cut_after_its_grace() -> None:
    pace = Pace(rate=1000, grace=0.05)

    with pytest.raises(TooSlow, match="1000 bytes a second"):
        await pace.wait(asyncio.sleep(60))


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
    pace = Pace(rate=1000, grace=20)

    for _ in range(20):
        pace.waited(2.0)
        await pace.wait(asyncio.sleep(0.005))
        pace.moved(4000)


async def test_credit_does_not_pile_up() -> None:
    pace = Pace(rate=1, grace=0.05)
    pace.moved(1_000_000)

    with pytest.raises(TooSlow):
        await pace.wait(asyncio.sleep(60))


async def test_a_large_write_earns_while_the_peer_takes_it() -> None:
    pace, began = Pace(rate=1000, grace=0.2), time.monotonic()

    def unsent() -> int:  # 2000 bytes a second, far longer than the grace
        return 10_000 - round(2000 * (time.monotonic() - began))

    await pace.wait(asyncio.sleep(0.8), unsent)


async def test_a_peer_is_not_cut_for_the_time_in_which_the_gateway_stood_still() -> None:
    pace, left, loop = Pace(rate=1000, grace=0.2), [1_000_000], asyncio.get_running_loop()
    taken = asyncio.Event()

    def stand_still() -> None:
        time.sleep(0.5)
        left[0] = 0  # the kernel sent it meanwhile, and the loop learns of it after what is overdue
        loop.call_soon(loop.call_soon, taken.set)

    loop.call_later(0.01, stand_still)

    await pace.wait(taken.wait(), lambda: left[0])


async def test_a_large_write_that_the_peer_takes_too_slowly_is_cut() -> None:
    pace, began = Pace(rate=1000, grace=0.2), time.monotonic()

    def unsent() -> int:
        return 10_000 - round(200 * (time.monotonic() - began))

    with pytest.raises(TooSlow):
        await pace.wait(asyncio.sleep(60), unsent)
    assert time.monotonic() - began < 30


async def test_what_a_peer_has_not_taken_is_counted_down_to_its_socket() -> None:
    done, gone = asyncio.Event(), asyncio.Event()

    async def idle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.transport.abort()
        gone.set()

    server = await asyncio.start_server(idle, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert unsent(writer.transport) == 0
    writer.write(bytes(20_000_000))
    await asyncio.sleep(0.1)
    assert unsent(writer.transport) > writer.transport.get_write_buffer_size() > 0
    writer.transport.abort()
    assert unsent(None) == 0
    done.set()
    await gone.wait()
    server.close()
    await server.wait_closed()


async def test_a_step_that_is_done_costs_no_wait_and_one_that_is_not_ends_as_itself() -> None:
    pace = Pace(rate=1000, grace=5)

    async def step(pauses: int) -> int:
        for _ in range(pauses):
            await asyncio.sleep(0)
        return pauses

    assert [await pace.wait(step(pauses)) for pauses in range(4)] == [0, 1, 2, 3]

    async def broken(pauses: int) -> None:
        await step(pauses)
        raise ConnectionResetError

    for pauses in range(3):
        with pytest.raises(ConnectionResetError):
            await pace.wait(broken(pauses))


@pytest.mark.parametrize("pauses", [0, 1])
async def test_a_step_learns_that_its_request_was_cancelled(pauses: int) -> None:
    pace, told = Pace(rate=1000, grace=5), asyncio.Event()

    async def step() -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what it must still do may take some waiting
            told.set()

    task = asyncio.ensure_future(pace.wait(step()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told.is_set()
