"""Threads of a store: bounded, and left at once by a caller who is cancelled."""

import asyncio
import contextlib
import gc
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from gateway.errors import StoreFull, StoreUnavailable
from gateway.stores.workers import Flag, Workers
from tests.service.http.eventually import eventually


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


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Give an event for threads to hang on, set at the end."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_job_returns_and_raises(workers: Workers) -> None:
    assert await workers.run(divmod, 7, 2) == (3, 1)

    def fails() -> None:
        raise OSError

    with pytest.raises(StoreFull):
        await workers.run(fails)


async def test_a_cancelled_call_returns_at_once_and_its_job_is_told(workers: Workers) -> None:
    begun, ended, stop = threading.Event(), threading.Event(), Flag()
    go_on = threading.Event()

    def job() -> None:
        begun.set()
        while not stop.up:
            time.sleep(0.001)
        go_on.wait()
        ended.set()

    task = asyncio.create_task(workers.run_until(stop, job))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended.is_set()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert await workers.run(int) == 0  # and the thread is free again


async def test_memory_lives_as_long_as_a_thread_that_hangs_with_it(workers: Workers) -> None:
    begun, release = threading.Event(), threading.Event()
    seen: list[bytes] = []

    class Memory(bytearray):
        pass

    def job(data: memoryview) -> None:
        begun.set()
        release.wait()
        seen.append(bytes(data[:6]))

    memory = Memory(b"sealed")
    there = weakref.ref(memory)
    task = asyncio.create_task(workers.run_until(Flag(), job, memoryview(memory)))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.wait([task])
    del task, memory
    gc.collect()
    assert there() is not None
    release.set()
    await workers.run(int)
    assert seen == [b"sealed"]
    gc.collect()
    assert there() is None


async def test_calls_do_not_queue_for_ever_behind_threads_that_hang(
    release: threading.Event,
) -> None:
    workers = Workers(2, "hanging", translated, patience=0.1)
    async with asyncio.timeout(60):
        for _ in range(6):
            with pytest.raises(StoreUnavailable, match="in time"):
                await workers.run(release.wait)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("hanging-")]
    assert len(ours) == 2
    release.set()

    async def free() -> bool:
        with contextlib.suppress(StoreUnavailable):  # a busy machine may take longer than it may
            return await workers.run(int) == 0
        return False

    await eventually(free)
    workers.close()


async def test_a_program_ends_though_a_thread_hangs() -> None:
    program = """
        import asyncio, contextlib, time
        from gateway.stores.workers import Workers
        async def main():
            workers = Workers(1, "test", contextlib.nullcontext, patience=0.1)
            with contextlib.suppress(Exception):
                await workers.run(time.sleep, 60)
            workers.close()
        asyncio.run(main())
    """
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    try:
        async with asyncio.timeout(100):
            assert await child.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()


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
