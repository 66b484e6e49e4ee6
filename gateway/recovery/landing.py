"""A local folder that takes opened attachments: files under names that no stored name can choose.

Guarantees that nothing is written outside the folder, over a file that is there, or through a symbolic
link; that a file has its name only once it is whole and durable; and that nobody else may read it: the
folder is 0700, a file 0600. A file's name is made of the stored one, with everything replaced that a shell
or another system could misread, and of the version's id, so that two never collide. What the names stood
for is told in `manifest.jsonl` beside the files, the last line of a version being the one that counts.
Every method blocks.
"""

import json
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

MANIFEST: Final = "manifest.jsonl"
_MARK: Final = 16  # hex characters of the version's id
_STEM: Final = 80
_SUFFIX: Final = 12
_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
_MARKED = re.compile(rf"~([0-9a-f]{{{_MARK}}})(?:\.[A-Za-z0-9]+)?")
_SUFFIXED = re.compile(rf"\.[A-Za-z0-9]{{1,{_SUFFIX}}}")


class LandingRefused(Exception):
    """A folder, or a file in it, that cannot be written; the text says why."""


class Landing:
    """One folder, with one below it for each tenant."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._there: dict[str, dict[str, str]] = {}  # names by tenant and mark, as they were found
        self._reading = threading.Lock()

    def prepare(self) -> None:
        """Make the folder, or see that it is ours alone. Raises LandingRefused."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _ours(self._folder)
        except OSError as error:
            raise LandingRefused(f"cannot use {self._folder}: {error.strerror}") from None

    def find(self, tenant: str, version: str) -> Path | None:
        """Return the file of a version that was there when the tenant was first asked for."""
        with self._reading:
            if tenant not in self._there:
                self._there[tenant] = dict(_marks(self._folder / tenant))
            name = self._there[tenant].get(version[:_MARK])
        return None if name is None else self._folder / tenant / name

    def begin(self, tenant: str, version: str, shown: str) -> "Draft":
        """Begin the file of a version that is shown to people as `shown`. Raises LandingRefused."""
        place = self._folder / tenant
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            _ours(place)
            return Draft(place / named(shown, version))
        except OSError as error:
            raise LandingRefused(f"cannot write below {place}: {error.strerror}") from None

    def note(self, tenant: str, line: Mapping[str, Any]) -> None:
        """Add a line to the tenant's manifest. Raises LandingRefused."""
        path = self._folder / tenant / MANIFEST
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(path, flags, 0o600), "ab") as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise LandingRefused(f"cannot write {path}: {error.strerror}") from None


class Draft:
    """A file under a temporary name. Ends with `finish` or `discard`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.part")
        self._temporary.unlink(missing_ok=True)  # of a run that was killed
        self._file = os.fdopen(os.open(self._temporary, _FLAGS, 0o600), "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append. Raises LandingRefused."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            raise LandingRefused(f"cannot write {self.path.parent}: {error.strerror}") from None

    def finish(self) -> None:
        """Give the file its name, durably. Raises LandingRefused if the name is taken."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._publish()
            _sync(self.path.parent)
        except FileExistsError:
            raise LandingRefused("another file has the name already") from None
        except OSError as error:
            raise LandingRefused(f"cannot write {self.path.parent}: {error.strerror}") from None

    def _publish(self) -> None:
        try:
            os.link(self._temporary, self.path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links; nobody else may write in this folder
            if os.path.lexists(self.path):
                raise FileExistsError from None
            self._temporary.rename(self.path)

    def discard(self) -> None:
        """Remove what has no name yet. Idempotent."""
        self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class Reader:
    """Reads a file that is there, to compare it. Raises LandingRefused where it cannot."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except OSError as error:
            raise LandingRefused(f"cannot read a file that is there: {error.strerror}") from None

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        return self._file.read(size)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._file.close()


def named(shown: str, version: str) -> str:
    """Return a safe file name: what is left of `shown`, the version's mark, a harmless suffix."""
    text = (
        re.sub(r"\s+", " ", unicodedata.normalize("NFC", shown))
        .replace("\\", "/")
        .rsplit("/", 1)[-1]
    )
    suffix = _SUFFIXED.fullmatch(os.path.splitext(text)[1])  # noqa: PTH122 - it is no path
    stem = text[: len(text) - len(suffix[0])] if suffix else text
    kept = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in stem)
    kept = kept.strip(" .-")
    while len(kept.encode()) > _STEM:
        kept = kept[:-1]
    return f"{kept or 'unnamed'}~{version[:_MARK]}{suffix[0] if suffix else ''}"


def _marks(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the mark and the name of every file that has one."""
    try:
        for path in folder.iterdir():
            found = _MARKED.search(path.name)
            if found is not None and not path.name.startswith("."):
                yield found[1], path.name
    except FileNotFoundError:
        return
    except OSError as error:
        raise LandingRefused(f"cannot read {folder}: {error.strerror}") from None


def _ours(folder: Path) -> None:
    """Raise LandingRefused unless it is a folder of ours in which nobody else may write."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise LandingRefused(f"{folder} is not a folder, or a link to one: name the folder itself")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LandingRefused(f"others may write in {folder}: name a folder of your own, mode 0700")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
