"""`sealgate dev` from nothing to a running stack, and all the ways it ends."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.dev.embedded import Embedded, alive, environment, run, until_gone

_STEPS = (
    "acknowledged: 8.0 MiB",
    "held by primary, backup-1, backup-2",
    "the same ciphertext in primary, backup-1, backup-2",
    "content, name, type and metadata of the file: found nowhere",
    "equal to the file's",
    "the download went on from a backup",
    "the connection was cut after",
    "every byte that came was right",
    "digests are equal",
    "gone for readers",
    "Stopped.",
)


def _value(data: Path, name: str) -> str:
    match = re.search(rf"^{name}=(\S+)$", (data / "env").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def test_once_takes_the_tour_in_plain_lines_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALGATE_LIMITS__MAX_ATTACHMENT", "1")  # not for the stack
    done = run(tmp_path, "--once", "--size", "8", "--port", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    places = [done.stdout.find(step) for step in _STEPS]
    assert -1 not in places, done.stdout
    assert places == sorted(places)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    data = tmp_path / "sealgate-dev"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "env").stat().st_mode & 0o777 == 0o600
    assert not any(alive(int(pid)) for pid in re.findall(r"process (\d+)", done.stdout))

    token = _value(data, "TOKEN")
    assert token not in done.stdout  # nobody stays to use it
    again = run(tmp_path, "--once", "--no-tour", "--port", "0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert _value(data, "TOKEN") == token, "a stack is taken up again, not made anew"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_both_services(tmp_path: Path, number: signal.Signals) -> None:
    with Embedded(tmp_path, "--no-tour", "--port", "0") as stack:
        services = stack.until_up().services()
        assert stack.end(number) == 0, stack.output
        assert "Stopped." in stack.output
        assert not any(map(alive, services))


def test_a_signal_during_the_tour_is_an_interruption(tmp_path: Path) -> None:
    with Embedded(tmp_path, "--size", "2000", "--port", "0") as stack:
        services = stack.until("1  Upload").services()
        assert stack.end(signal.SIGINT) == 130, stack.output
        assert not any(map(alive, services))


@pytest.mark.skipif(sys.platform != "linux", reason="the leash needs Linux")
def test_services_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with Embedded(tmp_path, "--no-tour", "--port", "0") as stack:
        services = stack.until_up().services()
        stack.end(signal.SIGKILL)
        until_gone(services)


@pytest.mark.parametrize("which", [0, 1], ids=["key service", "gateway"])
def test_a_service_that_ends_ends_everything_with_its_last_lines(
    tmp_path: Path, which: int
) -> None:
    with Embedded(tmp_path, "--no-tour", "--port", "0") as stack:
        services = stack.until_up().services()
        os.kill(services[which], signal.SIGKILL)
        assert stack.process.wait(60) == 1
        name = ("key service", "gateway")[which]
        assert f"sealgate: the {name} ended by itself (signal 9):" in stack.output
        assert '"event": "serving"' in stack.output
        assert not any(map(alive, services))


def test_two_cannot_share_a_folder(stack: Embedded) -> None:
    second = run(stack.cwd, "--once", "--no-tour", "--port", "0")
    assert second.returncode == 2
    assert "another `sealgate dev` runs in" in second.stderr


def test_a_taken_port_and_a_folder_too_deep_for_a_socket_are_worked_around(tmp_path: Path) -> None:
    data = tmp_path / ("deep" * 20) / ("deeper" * 10)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "--once", "--size", "1", "--port", port, "--data", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"port {port} is taken, so this uses" in done.stdout
    assert 'url = "http://127.0.0.1:' in (data / "gateway.toml").read_text()
    assert "answered 503 before the first byte" in done.stdout


def test_a_terminal_sees_a_moving_bar_and_colours(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "dev", "--once", "--size", "64", "--port", "0"],
        cwd=tmp_path,
        env={**environment(), "TERM": "xterm-256color", "COLUMNS": "80"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown, end = b"", time.monotonic() + 100
        while time.monotonic() < end:
            try:
                piece = os.read(controller, 65536)
            except OSError:  # the other side is closed
                break
            shown += piece
        assert process.wait(60) == 0, shown.decode()
    os.close(controller)
    text = shown.decode()
    assert "\x1b[" in text
    assert "sending" in text
    assert "64.0/64.0 MiB" in text or "MiB/s" in text
    assert "digests are equal" in text
