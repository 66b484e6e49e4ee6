"""What lies on the disk: which objects, whether words can be found in any file, and a byte changed.

Everything here blocks; it is called from a thread.
"""

import contextlib
import mmap
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """How many files and bytes were searched, and the files that hold a word."""

    files: int
    size: int
    hits: tuple[Path, ...]


def objects(store: Path, tenant: str) -> dict[str, int]:
    """Return a tenant's objects in a folder store and their sizes."""
    found = {}
    for path in sorted(store.glob(f"t/{tenant}/*/*")):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            about = path.stat()
            if stat.S_ISREG(about.st_mode):
                found[str(path.relative_to(store))] = about.st_size
    return found


def search(root: Path, words: Sequence[bytes]) -> Found:
    """Look for the words in every file below a folder, but for those that are gone by then."""
    files = size = 0
    hits: list[Path] = []
    for path in sorted(root.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                continue
            holds = found.st_size > 0 and _holds(path, words)
            files += 1
            size += found.st_size
            hits += [path] * holds
    return Found(files, size, tuple(hits))


def _holds(path: Path, words: Sequence[bytes]) -> bool:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # emptied since, and nothing is mapped
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return any(view.find(word) >= 0 for word in words)


def same(paths: Sequence[Path]) -> bool:
    """Tell whether all files hold the same bytes."""
    first, *others = paths
    if any(path.stat().st_size != first.stat().st_size for path in others):
        return False
    with first.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for path in others:
            with path.open("rb") as other:
                offset = 0
                while piece := other.read(1 << 20):
                    if view[offset : offset + len(piece)] != piece:
                        return False
                    offset += len(piece)
    return True


def head(path: Path, count: int) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)


def byte(path: Path, offset: int) -> int:
    """Return one byte of a file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(1)[0]


def put(path: Path, offset: int, value: int) -> None:
    """Let one byte of a file be this. A file that is not there is being written anew, and is left alone."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([value]))
