"""What a process has used of memory at most, as the kernel counts it (native memory included)."""

from pathlib import Path


def peak(pid: int) -> int:
    """Return the high-water mark of a process's resident memory in bytes."""
    return _field(pid, "VmHWM")


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return _field(pid, "VmRSS")


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)
