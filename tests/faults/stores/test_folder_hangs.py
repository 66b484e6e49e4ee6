"""A disk that hangs, as a network mount does: it keeps its own threads, and nobody else."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.errors import StoreError, StoreUnavailable
from gateway.flow.buffers import Load, Pool
from gateway.flow.lane import Lane
from gateway.ports import Piece
from gateway.stores.folder import FolderStore
from gateway.stores.retry import RetryPolicy
from gateway.stores.retrying import RetryingStore
from gateway.targets.quorum import Role, Target
from tests.doubles.system import system_calls
from tests.service.http.eventually import eventually

KEY = "t/a/b/body"
MIB = 1024 * 1024
SOON = 20.0  # seconds; what waited for the disk would wait for ever


def piece(data: bytes = b"sealed") -> Piece:
    return Piece(memoryview(data), 0)


class Hanging:
    """System calls of a store's threads that hang, from `hang` until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._go_on = threading.Event()
        self.reached = threading.Event()

    def hang(self, *names: str) -> None:
        for name in names:
            real = getattr(os, name)

            def stuck(*args: object, real: object = real, **options: object) -> object:
                if threading.current_thread().name.startswith("store-"):
                    self.reached.set()
                    self._go_on.wait()
                return real(*args, **options)  # type: ignore[operator]

            self._monkeypatch.setattr(os, name, stuck)

    def release(self) -> None:
        self._go_on.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """Give a disk that hangs on demand, and lets go at the end."""
    hanging = Hanging(monkeypatch)
    yield hanging
    hanging.release()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    """Give a folder with few threads."""
    made = FolderStore(tmp_path, threads=2, patience=60.0)
    yield made
    await made.close()


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[FolderStore]:
    """Give the same folder with little patience, for a disk that hangs already."""
    made = FolderStore(tmp_path, threads=2, patience=0.2)
    yield made
    await made.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
async def test_a_cancelled_put_returns_at_once_and_makes_nothing_later(
    tmp_path: Path, store: FolderStore, disk: Hanging, call: str
) -> None:
    disk.hang(call)
    task = asyncio.create_task(store.put(KEY, piece()))
    await asyncio.to_thread(disk.reached.wait)
    task.cancel()
    async with asyncio.timeout(SOON):
        await asyncio.wait([task])
    assert task.cancelled()
    disk.release()

    async def nothing_left() -> bool:
        return not files(tmp_path)

    await eventually(nothing_left)


async def test_a_cancelled_completion_returns_at_once_and_makes_nothing_later(
    tmp_path: Path, store: FolderStore, disk: Hanging
) -> None:
    upload = await store.begin(KEY)
    await upload.part(1, piece())
    disk.hang("fsync")
    task = asyncio.create_task(upload.complete())
    await asyncio.to_thread(disk.reached.wait)
    task.cancel()
    async with asyncio.timeout(SOON):
        await asyncio.wait([task])
    await upload.abort()
    disk.release()
    await asyncio.sleep(0.1)
    assert files(tmp_path) == []


async def test_calls_that_hang_end_within_their_patience(
    store: FolderStore, hasty: FolderStore, disk: Hanging
) -> None:
    await store.put(KEY, piece())
    disk.hang("stat", "lstat", "unlink", "open", "scandir")
    async with asyncio.timeout(SOON):
        for call in (hasty.begin, hasty.stat, hasty.delete):
            with pytest.raises(StoreUnavailable, match="in time"):
                await call(KEY)
        with pytest.raises(StoreUnavailable, match="in time"):
            await hasty.check()
        with pytest.raises(StoreUnavailable, match="in time"):
            await anext(hasty.list(""))
    disk.release()


async def test_a_read_that_hangs_ends_and_is_closed_by_its_thread(
    store: FolderStore, hasty: FolderStore, disk: Hanging
) -> None:
    await store.put(KEY, piece(bytes(2 * MIB)))
    before = open_files()
    disk.hang("pread")
    async with asyncio.timeout(SOON), aclosing(hasty.read(KEY)) as pieces:
        with pytest.raises(StoreUnavailable, match="in time"):
            await anext(pieces)
    disk.release()

    async def closed() -> bool:
        return open_files() <= before

    await eventually(closed)


async def test_a_lane_that_is_given_up_taints_what_a_thread_still_holds(
    tmp_path: Path, store: FolderStore, disk: Hanging
) -> None:
    pool = Pool(MIB, 8 * MIB)
    lane = Lane(
        Target("cellar", Role.BACKUP, RetryingStore(store)),
        "a",
        "b",
        parallel=1,
        changed=lambda: None,
    )
    disk.hang("pwrite")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(lane.run())
        data = await pool.draw(MIB, "a")
        load = Load(data, pool, "a", lambda _: None)
        load.used = MIB
        lane.offer(load)
        load.release()
        await asyncio.to_thread(disk.reached.wait)
        begun = time.monotonic()
        lane.give_up(StoreError("the target fell behind"))
        await asyncio.wait([running])
    assert time.monotonic() - begun < SOON
    assert pool.idle == 0  # it did not go back, so nobody else writes into it
    assert await pool.draw(MIB, "a") is not data
    disk.release()
    await asyncio.sleep(0.05)
    assert not (tmp_path / "t").exists()


async def test_a_deadline_ends_a_put_that_hangs_and_trusts_nothing_of_it(
    tmp_path: Path, store: FolderStore, disk: Hanging
) -> None:
    patient = RetryingStore(store, RetryPolicy(body_deadline=0.2))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if (tmp_path / KEY).exists():  # visible, and its folder not yet on the disk
            disk.reached.set()
            disk._go_on.wait()
        real(descriptor)

    system_calls(disk._monkeypatch, "gateway.stores.folder_io", fsync=fsync)
    async with asyncio.timeout(SOON):
        with pytest.raises(StoreUnavailable, match="in time"):
            await patient.put(KEY, piece())
    disk.release()
