"""A `sealgate` command that is at its work while something is measured beside it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from tests.stack.stack import Stack

LOOK = 0.1  # seconds


@asynccontextmanager
async def at_work(
    stack: Stack, words: Sequence[str], done: Callable[[], Awaitable[int]]
) -> AsyncIterator[None]:
    """Run the block once `done` counts more than before; then interrupt the command.

    Raises RuntimeError when it ended by itself.
    """
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # in the background; it would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = await done()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        env=stack.environment | {"SEALGATE_CONFIG": str(stack.home / "gateway.toml")},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        while await done() == before:
            _going_on(program, words)
            await asyncio.sleep(LOOK)
        yield
        _going_on(program, words)
    finally:
        if program.returncode is None:
            program.send_signal(signal.SIGINT)  # it gives back what it was at
        await program.wait()


def _going_on(program: asyncio.subprocess.Process, words: Sequence[str]) -> None:
    if program.returncode is not None:
        raise RuntimeError(f"sealgate {' '.join(words[:2])} ended by itself: {program.returncode}")
