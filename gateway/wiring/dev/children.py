"""The services as processes of their own: started, watched, and stopped in order.

Guarantees that none outlives this process, that Ctrl-C reaches them only through us, that they see no
settings from this environment, and that one which ends by itself is told with its last log lines.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.wiring.dev.errors import ChildEnded

_PATIENCE = 10.0  # beyond the drain time that the configuration gives
_TAIL = 12


@dataclass(frozen=True, slots=True)
class Child:
    """A running service."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    since: int

    async def watch(self) -> None:
        """Wait for the end that should not come. Raises ChildEnded."""
        code = await self.process.wait()
        lines = await asyncio.to_thread(self._tail)
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise ChildEnded("\n  ".join([f"the {self.name} ended by itself ({end}):", *lines]))

    async def stop(self) -> None:
        """Ask it to finish and wait; kill it when it does not."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def _tail(self) -> list[str]:
        """Return the last lines of this run."""
        with self.log.open("rb") as file:
            file.seek(self.since)
            return file.read().decode(errors="replace").splitlines()[-_TAIL:]


@contextlib.asynccontextmanager
async def running(name: str, arguments: Sequence[str], log: Path) -> AsyncIterator[Child]:
    """Run `python -m` with these arguments while the block lasts; its output goes to `log`."""
    leash = [sys.executable, "-m", "gateway.processes.leash", str(os.getpid())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEALGATE_")}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        since = os.fstat(descriptor).st_size
        process = await asyncio.create_subprocess_exec(
            *leash,
            *(sys.executable, "-m", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            env=environment,
        )
    finally:
        os.close(descriptor)
    child = Child(name, process, log, since)
    try:
        yield child
    finally:
        await asyncio.shield(child.stop())
