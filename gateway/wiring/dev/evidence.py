"""What lies on the disk: which objects, whether words can be found in any file, and a byte changed.

Everything here blocks; it is called from a thread.
"""

import mmap
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


def objects(store: Path) -> dict[str, int]:
    """Return the objects of a folder store and their sizes."""
    return {
        str(path.relative_to(store)): path.stat().st_size
        for path in sorted(store.glob("t/*/*/*"))
        if path.is_file()
    }


def search(root: Path, words: Sequence[bytes]) -> Found:
    """Look for the words in every file below a folder."""
    files = size = 0
    hits: list[Path] = []
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            continue
        files += 1
        size += found.st_size
        if found.st_size and _holds(path, words):
            hits.append(path)
    return Found(files, size, tuple(hits))


def _holds(path: Path, words: Sequence[bytes]) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
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


def flip(path: Path, offset: int) -> None:
    """Change one bit in the middle of a file. Twice is as it was."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
