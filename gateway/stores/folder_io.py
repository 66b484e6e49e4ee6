"""Blocking reads and writes of single files, in blocks. Errors are OSErrors."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.stores.workers import Flag, Stopped

BLOCK = 1024 * 1024  # bytes of one write; a request to stop is seen between two

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Reader:
    """A file open for reading. `close` may be called at any time, also while a thread is reading.

    That thread then closes the file when it comes back, so that nobody reads another file which got
    the same number.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        self._busy = False
        self._closed = False

    def open(self) -> int:
        """Open the file and return its size. What is not a plain file counts as missing."""
        with self._used():
            self._descriptor = os.open(self._path, _READ)
            found = os.fstat(self._descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a plain file")
            return found.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return some of the bytes [start, stop), none only at the end of the file."""
        with self._used():
            assert self._descriptor is not None  # noqa: S101 - `open` has returned
            return os.pread(self._descriptor, stop - start, start)

    def close(self) -> None:
        """Close the file, or have it closed. Idempotent."""
        with self._lock:
            self._closed = True
            if not self._busy:
                self._release()

    @contextmanager
    def _used(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Stopped
            self._busy = True
        try:
            yield
        finally:
            self._come_back()

    def _come_back(self) -> None:
        with self._lock:
            self._busy = False
            if self._closed:
                self._release()

    def _release(self) -> None:
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
            stop.check()
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
