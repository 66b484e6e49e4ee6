"""A folder when its disk is full, its process is killed, or its caller leaves."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gateway.errors import ObjectMissing, StoreFull
from gateway.ports import Piece
from gateway.stores.folder import FolderStore
from tests.service.http.eventually import eventually

MIB = 1024 * 1024
KEY = "t/a/b/body"

FULL = """
    import asyncio, resource, signal, sys
    from gateway.errors import ObjectMissing, StoreFull
    from gateway.ports import Piece
    from gateway.stores.folder import FolderStore

    MIB = 1024 * 1024
    # A file may not grow past 3 MiB: to the store that is a disk which fills up while it writes.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, 3 * MIB))

    async def main():
        store = FolderStore(sys.argv[1])
        try:
            await store.put("t/a/b/body", Piece(memoryview(bytes(5 * MIB)), 0))
        except StoreFull:
            print("put full")
        upload = await store.begin("t/a/b/body")
        await upload.part(1, Piece(memoryview(bytes(2 * MIB)), 0))
        try:
            await upload.part(2, Piece(memoryview(bytes(2 * MIB)), 0))
        except StoreFull:
            print("part full")
        await upload.abort()
        try:
            await store.stat("t/a/b/body")
        except ObjectMissing:
            print("nothing visible")
        await store.put("t/a/b/envelope", Piece(memoryview(b"small"), 0))
        print("goes on")
        await store.close()

    asyncio.run(main())
"""

ENDLESS = """
    import asyncio, sys
    from gateway.model import new_id
    from gateway.ports import Piece
    from gateway.stores.folder import FolderStore

    PART = Piece(memoryview(bytes(range(256)) * 4096), 0)

    async def main():
        store = FolderStore(sys.argv[1])
        print("begun", flush=True)
        while True:
            blob = f"t/a/{new_id()}"
            upload = await store.begin(f"{blob}/body")
            for number in (1, 2):
                await upload.part(number, PART)
            await upload.complete()
            await store.put(f"{blob}/envelope", PART)
            print(blob, flush=True)

    asyncio.run(main())
"""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    output, _ = start(FULL, tmp_path).communicate(timeout=110)
    assert output.splitlines() == ["put full", "part full", "nothing visible", "goes on"]
    assert files(tmp_path) == ["t/a/b/envelope"]


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.06, 0.1, 0.15])
async def test_a_killed_writer_leaves_whole_objects_or_none(tmp_path: Path, seconds: float) -> None:
    acknowledged = await asyncio.to_thread(run_and_kill, tmp_path, seconds)
    store = FolderStore(tmp_path)
    seen = {each.key: each.size async for each in store.list("")}
    for blob in acknowledged:
        assert {f"{blob}/body", f"{blob}/envelope"} <= set(seen)
    for key, size in seen.items():
        assert size == (2 * MIB if key.endswith("body") else MIB)
    for left in [each async for each in store.unfinished("")]:
        await store.discard(left)
    await store.close()
    assert set(files(tmp_path)) == set(seen)


def run_and_kill(folder: Path, seconds: float) -> list[str]:
    """Return what the writer had acknowledged before it was killed."""
    with start(ENDLESS, folder) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        return [line.strip() for line in writer.stdout.readlines() if line.endswith("\n")]


async def test_a_cancelled_part_writes_no_more_and_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, threads=1)
    upload = await store.begin(KEY)
    task = asyncio.create_task(upload.part(1, Piece(memoryview(bytes(64 * MIB)), 0)))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    await upload.abort()
    with pytest.raises(ObjectMissing):
        await store.stat(KEY)
    assert files(tmp_path) == []
    await store.close()


async def test_readers_that_are_cancelled_leave_no_file_open(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, Piece(memoryview(bytes(8 * MIB)), 0))

    async def read() -> int:
        return sum([len(each) async for each in store.read(KEY)])

    before = open_files()
    for delay in range(20):
        task = asyncio.create_task(read())
        await asyncio.sleep(delay / 5000)
        task.cancel()
        await asyncio.wait([task])
    assert await read() == 8 * MIB

    async def closed() -> bool:
        return open_files() <= before

    await eventually(closed)  # the last thread that was left has come back
    await store.close()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
async def test_no_room_for_the_first_byte_is_full(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    upload = await store.begin(KEY)
    upload._path = Path("/dev/full")  # type: ignore[attr-defined]
    with pytest.raises(StoreFull):
        await upload.part(1, Piece(memoryview(b"x"), 0))
    await store.close()
