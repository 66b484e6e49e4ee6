"""What processes have used: CPU seconds of a tree, peak memory since a mark, bytes read.

As the kernel counts them, native code and ended threads included.
"""

import contextlib
from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu(pids: tuple[int, ...]) -> float:
    """Return the user and system seconds of these process trees, of children that ended too."""
    times = [each.cpu_times() for pid in pids for each in tree(pid)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def forget_peak(pids: tuple[int, ...]) -> None:
    """Set the high-water mark of memory to what is used now, where the kernel allows it."""
    for pid in pids:
        for each in tree(pid):
            with contextlib.suppress(OSError):
                Path(f"/proc/{each.pid}/clear_refs").write_text("5")


def peak(pids: tuple[int, ...]) -> int:
    """Return the peak resident bytes since the last mark, summed over the trees."""
    return sum(_status(each.pid, "VmHWM") * 1024 for pid in pids for each in tree(pid))


def read(pids: tuple[int, ...]) -> int:
    """Return the bytes that the trees took from sockets and files by `read`, as libuv does."""
    return sum(_io(each.pid, "rchar") for pid in pids for each in tree(pid))


def _status(pid: int, name: str) -> int:
    return _field(Path(f"/proc/{pid}/status"), name)


def _io(pid: int, name: str) -> int:
    return _field(Path(f"/proc/{pid}/io"), name)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(name)
