"""`sealgate dev` as a person starts it: a process, watched through what it prints."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
_UP = "Ctrl-C stops it"
_PROCESS = re.compile(r"process (\d+)")


def environment() -> dict[str, str]:
    """Return an environment in which `python -m gateway` is this tree, in any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Embedded:
    """One run of `sealgate dev` in a folder of its own."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.cwd = cwd
        self.data = cwd / "sealgate-dev"
        self._output = cwd / "output.txt"
        self._arguments = arguments

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "gateway", "dev", *self._arguments]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.cwd,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self._output.read_text()

    def until_up(self) -> Self:
        """Wait until it is running and says so."""
        return self.until(_UP)

    def until(self, text: str) -> Self:
        """Wait until it has printed this."""
        end = time.monotonic() + PATIENCE
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.05)
        return self

    def services(self) -> list[int]:
        """Return the process ids of key service and gateway."""
        found = [int(number) for number in _PROCESS.findall(self.output)]
        assert len(found) == 2, self.output
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sealgate dev` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "dev", *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def alive(process: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until_gone(processes: list[int]) -> None:
    """Wait until none of these processes is left."""
    end = time.monotonic() + PATIENCE
    while left := [each for each in processes if alive(each)]:
        assert time.monotonic() < end, f"still alive: {left}"
        time.sleep(0.05)


def shell(script: str, cwd: Path) -> str:
    """Run lines as a person pastes them into bash, and return what they print."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout
