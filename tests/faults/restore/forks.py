"""`sealgate` as real processes that start in an instant: one that has imported everything, and forks.

Run as a module it reads lines of JSON, `[file for the output, words...]`, and answers each with the new
process's id and, once that has ended, with its exit code (negative: the signal that killed it).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self


@dataclass(slots=True)
class Fork:
    """One command under way."""

    pid: int
    output: Path
    answers: IO[str]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; one that has ended does not mind."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def wait(self) -> int:
        """Return its exit code, negative for the signal that killed it."""
        return int(self.answers.readline())

    @property
    def said(self) -> str:
        """What it printed, on standard output."""
        return self.output.read_text()

    @property
    def complained(self) -> str:
        """What it printed on standard error."""
        return self.output.with_suffix(".err").read_text()


class Forks:
    """The parent of such processes; a context manager."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._count = 0

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.restore.forks"],
            env=dict(self._environment),
            cwd=self._home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parent.communicate()

    def start(self, *words: str) -> Fork:
        """Start `sealgate` with these words. One at a time, until it has been waited for."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._count += 1
        output = self._home / f"fork-{self._count}.out"
        self._parent.stdin.write(json.dumps([str(output), *words]) + "\n")
        self._parent.stdin.flush()
        return Fork(int(self._parent.stdout.readline()), output, self._parent.stdout)

    def run(self, *words: str, code: int = 0) -> Fork:
        """Run to the end, which must be this one."""
        fork = self.start(*words)
        ended = fork.wait()
        assert ended == code, (ended, fork.said, fork.complained)
        return fork

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run to the end and return what it tells."""
        told: dict[str, Any] = json.loads(self.run(*words, "--json", code=code).said)
        return told


def main() -> None:
    """Serve until standard input ends."""
    from gateway.cli import restoring  # noqa: F401, PLC0415 - so that children need not
    from gateway.cli.root import cli  # noqa: PLC0415 - only here

    for line in sys.stdin:
        output, *words = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(Path(output))
            cli(words, prog_name="sealgate")  # exits
        _answer(pid)
        _, status = os.waitpid(pid, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(output: Path) -> None:
    for number, path in ((0, Path(os.devnull)), (1, output), (2, output.with_suffix(".err"))):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the parent's is not read twice


if __name__ == "__main__":
    main()
