"""A worker that cannot be started now is started later, and costs the others nothing."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.processes import workers
from gateway.processes.workers import Workers


async def test_a_system_without_room_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refusals = asyncio.create_subprocess_exec, [BlockingIOError(11, "no process to spare")]

    async def crowded(*command: str, **options: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop()
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", crowded)
    monkeypatch.setattr(workers, "SLOWEST", 0.01)
    started = tmp_path / "started"
    script = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    running = asyncio.create_task(
        Workers([sys.executable, "-c", script], 1, drain_timeout=0.0, fatal=78).run()
    )
    while not started.exists():
        assert not running.done()
        await asyncio.sleep(0.05)
    signal.raise_signal(signal.SIGTERM)

    assert await running
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(each)
