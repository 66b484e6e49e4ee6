"""Threads of a store: bounded, cancellable, and done with the caller's memory when it returns."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.errors import StoreFull, StoreUnavailable
from gateway.stores.workers import Flag, Workers


@contextlib.contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFull("full") from error


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1, "test", translated)
    yield made
    made.close()


async def test_a_job_returns_and_raises(workers: Workers) -> None:
    assert await workers.run(divmod, 7, 2) == (3, 1)

    def fails() -> None:
        raise OSError

    with pytest.raises(StoreFull):
        await workers.run(fails)


async def test_a_cancelled_call_waits_for_its_thread(workers: Workers) -> None:
    begun, stop = threading.Event(), Flag()
    ended: list[bool] = []

    def job() -> None:
        begun.set()
        while not stop.up:
            time.sleep(0.001)
        time.sleep(0.05)
        ended.append(True)

    task = asyncio.create_task(workers.run_until(stop, job))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()  # once more: it still may not leave
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_job_that_did_not_begin_is_dropped(workers: Workers) -> None:
    begun, release = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        release.wait()

    ran: list[int] = []
    holding = asyncio.create_task(workers.run(first))
    await asyncio.to_thread(begun.wait)
    waiting = asyncio.create_task(workers.run(ran.append, 1))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await holding
    await workers.run(int)
    assert ran == []


async def test_a_closed_pool_is_unavailable(workers: Workers) -> None:
    workers.close()
    workers.close()
    with pytest.raises(StoreUnavailable):
        await workers.run(int)
