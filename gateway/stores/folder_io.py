"""Blocking reads and writes of single files, in blocks. Errors are OSErrors."""

import errno
import os
import stat
from pathlib import Path

from gateway.stores.workers import Flag

BLOCK = 1024 * 1024  # bytes of one write; a request to stop is seen between two

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Stopped(Exception):
    """The caller was cancelled, so nobody wants the bytes any more."""


class Reader:
    """A file open for reading. `close` may be called at any time, also when `open` failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def open(self) -> int:
        """Open the file and return its size. What is not a plain file counts as missing."""
        self._descriptor = os.open(self._path, _READ)
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a plain file")
        return found.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return some of the bytes [start, stop), none only at the end of the file."""
        assert self._descriptor is not None  # noqa: S101 - `open` has returned
        return os.pread(self._descriptor, stop - start, start)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create(path: Path) -> None:
    """Create an empty file that only its owner may read. Raises FileExistsError."""
    os.close(os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o600))


def write(path: Path, offset: int, data: memoryview, stop: Flag) -> None:
    """Write all of `data` at an offset. Raises Stopped when asked to stop."""
    descriptor = os.open(path, _WRITE)
    try:
        done = 0
        while done < len(data):
            if stop.up:
                raise Stopped
            done += os.pwrite(descriptor, data[done : done + BLOCK], offset + done)
    finally:
        os.close(descriptor)


def copy(source: Path, start: int, size: int, target: Path, offset: int) -> None:
    """Copy a piece of one file into another. A piece that is cut short counts as missing.

    Fails if the disk could not take the source's bytes: what was read may then be others.
    """
    descriptor = os.open(source, _READ)
    try:
        done = 0
        while done < size:
            block = os.pread(descriptor, min(BLOCK, size - done), start + done)
            if not block:
                raise FileNotFoundError(errno.ENOENT, "cut short")
            write(target, offset + done, memoryview(block), Flag())
            done += len(block)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finish(path: Path, size: int) -> None:
    """Cut a file to its size and put its bytes on the disk."""
    descriptor = os.open(path, _WRITE)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk. One that is gone meanwhile has none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
