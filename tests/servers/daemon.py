"""One real server program: started, waited for, paused, killed, stopped.

The program dies with the test run, even when that is killed (Linux), and its output
goes to a log file whose end is shown when it does not come up. Every wait has a
deadline. Calls block: use `asyncio.to_thread` inside a coroutine.
"""

import collections
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

DEADLINE = 90.0  # a busy machine starts programs slowly
_PAUSE = 0.02
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ServerFailed(Exception):
    """A server did not start or stop as it should; the text holds the end of its log."""


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    """A server program with a log file, and the signals that make faults."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._argv = list(argv)
        self._ready = ready
        self._env = dict(env or {})
        self._user = user
        self._stop_signal = stop_signal
        self._program: subprocess.Popen[bytes] | None = None
        self.log = log

    @property
    def pid(self) -> int:
        """The id of the running program."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the program is there (a paused one is)."""
        return self._program is not None and self._program.poll() is None

    def start(self) -> None:
        """Start the program and return once it answers; raise `ServerFailed` otherwise."""
        self.launch()
        self.settle()

    def launch(self) -> None:
        """Start the program and return before it answers: `settle` waits for that."""
        if self.running:
            raise ServerFailed(f"{self._name} is running already")
        with self.log.open("ab") as output:
            self._program = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                user=self._user,
                group=self._user and _group_of(self._user),
                extra_groups=None if self._user is None else [],
                cwd=self.log.parent,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, no Python locks
            )

    def settle(self) -> None:
        """Return once the program answers; raise `ServerFailed` otherwise."""
        try:
            self._await(self._ready, "answer")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the program to end, kill it when it does not; fine when it is gone."""
        if self._program is None:
            return
        if self._program.poll() is None:
            self._program.send_signal(signal.SIGCONT)
            self._program.send_signal(self._stop_signal)
            try:
                self._program.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._program.kill()
        self._program.wait()
        self._program = None

    def kill(self) -> None:
        """Kill the program as a power cut would; fine when it is gone."""
        if self._program is not None:
            self._program.kill()
            self._program.wait()
            self._program = None

    def restart(self) -> None:
        """Stop the program and start it again at the same address."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the program: connections are accepted by the kernel, nothing is answered."""
        program = self._running()
        program.send_signal(signal.SIGSTOP)
        self._await(lambda: _frozen(program.pid), "freeze")

    def resume(self) -> None:
        """Let a frozen program go on."""
        self._running().send_signal(signal.SIGCONT)

    @property
    def _name(self) -> str:
        return Path(self._argv[0]).name

    def _running(self) -> subprocess.Popen[bytes]:
        if self._program is None or self._program.poll() is not None:
            raise ServerFailed(f"{self._name} is not running")
        return self._program

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + DEADLINE
        while not condition():
            if not self.running:
                raise ServerFailed(f"{self._name} ended before it could {what}\n{self._tail()}")
            if time.monotonic() > until:
                raise ServerFailed(
                    f"{self._name} did not {what} within {DEADLINE:.0f} s\n{self._tail()}"
                )
            time.sleep(_PAUSE)

    def _tail(self) -> str:
        with self.log.open(errors="replace") as lines:
            return "".join(collections.deque(lines, maxlen=30))


def _frozen(pid: int) -> bool:
    """Tell whether every thread has stopped (where the system says): a signal takes its time."""
    try:
        states = [state.read_text() for state in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread ended meanwhile
        return False
    return all(state.rpartition(")")[2].split()[0] in "TZ" for state in states)


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - not on every platform, and needed as root only

    return pwd.getpwnam(user).pw_gid
