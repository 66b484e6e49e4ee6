"""Starts the gateway as `sealgate` does, with a census of its tasks, and with a fault on demand.

`python -m tests.load.launch CENSUS FAULT serve ...`: on SIGUSR1 the file CENSUS gets the number of tasks
in the event loop. FAULT is `none`, or `unawaited`: then a download writes without waiting until the
client has room, which is the mutation that the memory test must see.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.cli import main
from gateway.wiring import app

_serve = app.serve
_write = web.StreamResponse.write
_running: set[asyncio.Task[None]] = set()


async def _write_and_forget(self: web.StreamResponse, data: Any) -> None:
    task = asyncio.get_running_loop().create_task(_write(self, data))
    _running.add(task)
    task.add_done_callback(_running.discard)


def launch(census: Path, fault: str) -> None:
    """Run the command line with the census, and the fault, in place."""

    async def counted(*arguments: Any, **options: Any) -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            part = census.with_suffix(".part")
            part.write_text(str(len(asyncio.all_tasks(loop))))
            os.replace(part, census)  # noqa: PTH105 - in a callback, the plain call

        loop.add_signal_handler(signal.SIGUSR1, count)
        await _serve(*arguments, **options)

    app.serve = counted
    if fault == "unawaited":
        web.StreamResponse.write = _write_and_forget  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    where, what, *sys.argv[1:] = sys.argv[1:]
    launch(Path(where), what)
