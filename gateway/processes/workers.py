"""Several gateway processes on one port, and the parent that keeps them there.

Guarantees that a worker which dies is started again (at once the first time, then more and more
slowly), that stopping waits for running streams up to the drain time, and that no worker outlives the
parent on Linux. The kernel spreads connections over the workers (SO_REUSEPORT). Figures of all workers
are added up by whichever answers `/metrics`; one that is started again goes on with those of the one before
(`figures`). The parent itself serves nothing and holds no secret.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from gateway.processes import figures

log = structlog.get_logger()
# For all workers but the first, which does the duties of a gateway.
ONE_REAPS = {"SEALGATE_REAPER__ENABLED": "false", "SEALGATE_WORKER__EMBEDDED": "false"}
STEADY = 30.0  # seconds after which a worker that dies had been well
SLOWEST = 30.0  # seconds between tries to start one that does not live
PATIENCE = 5.0  # seconds beyond the drain time


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port for workers while the block runs, without listening on it; 0 picks a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
        yield holder.getsockname()[1]


class Workers:
    """`count` processes of one command. `fatal` is the exit code with which trying again is no use."""

    def __init__(
        self, command: Sequence[str], count: int, *, drain_timeout: float, fatal: int
    ) -> None:
        self._command = command
        self._count = count
        self._drain = drain_timeout
        self._fatal = fatal
        self._stop = asyncio.Event()
        self._failed = False

    async def run(self) -> bool:
        """Keep the workers running until SIGTERM or SIGINT; tell whether it ended as it should."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stop.set)
        with tempfile.TemporaryDirectory(prefix="sealgate-figures-") as folder:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._keep(number, folder))
        return not self._failed

    async def _keep(self, number: int, folder: str) -> None:
        """Keep one worker running until told to stop."""
        pause = 0.0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                code = await self._one(number, folder)
            except OSError as error:  # no memory or no process to spare: the others go on
                log.warning("worker not started", worker=number, error=type(error).__name__)
                code = None
            if self._stop.is_set():
                return
            if code == self._fatal:
                self._failed = True
                self._stop.set()
                return
            pause = 0.0 if time.monotonic() - began > STEADY else min(max(2 * pause, 1.0), SLOWEST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    async def _one(self, number: int, folder: str) -> int:
        """Run one worker until it ends; return its exit code. Raises OSError if there can be none."""
        alone = {} if number == 0 else ONE_REAPS
        told = {**os.environ, **figures.environment(folder, number), **alone}
        worker = await asyncio.create_subprocess_exec(*self._command, env=told)
        log.info("worker started", worker=number, pid=worker.pid)
        code = await self._until_end(worker)
        figures.died(folder, number)
        if not self._stop.is_set():
            log.error("worker ended", worker=number, pid=worker.pid, code=code)
        return code

    async def _until_end(self, worker: asyncio.subprocess.Process) -> int:
        """Wait for a worker's end; once told to stop, ask it to finish, then insist."""
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(worker.wait())
            stopped = group.create_task(self._stop.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGTERM)
                await asyncio.wait((ended,), timeout=self._drain + PATIENCE)
            if not ended.done():
                log.error("worker killed", pid=worker.pid)
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
            return await ended


def command(config: Path, host: str, port: int) -> list[str]:
    """Return the command of one worker, tied to this process."""
    own = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    own += ["--host", host, "--port", str(port), "--worker"]
    return [sys.executable, "-m", "gateway.processes.leash", str(os.getpid()), *own]
