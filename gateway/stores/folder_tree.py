"""Where a folder store keeps its files, and how they get there. Blocking; errors are OSErrors.

Objects are files at their key's path. What is not finished lies in `.unfinished`, which no key can
name, under `{key, with - for /}.{upload id}`, so that a listing tells whose it is. A file gets its
final name by a hard link, which never overwrites, once its bytes are on the disk; the folders on the
way are synced after it. What cannot be synced is taken back, since a disk tells an error once only: a
second sync would succeed and prove nothing. One that replaces another takes its name by a rename. Needs
a file system with hard links.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import StoreDamaged, StoreUnavailable
from gateway.model import new_id, now
from gateway.ports import Stat, Unfinished
from gateway.stores.folder_io import create, sync_folder

_SECOND = 1_000_000
_TRIES = 10  # of a link whose folder concurrent deletes keep removing
_WORD = re.compile(r"[a-z0-9]+")
_NAME = re.compile(r"(?P<key>[a-z0-9-]+)\.(?P<upload>[0-9a-f]{32})(?:\..*)?")


class Tree:
    """The files under one root, which must exist: a missing one may be a disk not yet mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unfinished = root / ".unfinished"

    def temporary(self, key: str) -> Path:
        """Create an empty unfinished file for `key`, with a fresh upload id."""
        # The id begins with the time, so that it can be told when nobody is left who knows.
        upload = f"{int(now().timestamp() * _SECOND):016x}{new_id()[:16]}"
        path = self._unfinished / f"{key.replace('/', '-')}.{upload}"
        try:
            create(path)
        except FileNotFoundError:
            self._unfinished.mkdir(mode=0o700, exist_ok=True)
            create(path)
        return path

    def unfinished(self, prefix: str) -> list[Unfinished]:
        """Every unfinished upload whose key begins with `prefix`, in order of key, then of age."""
        found = set()
        for path in self._temporaries():
            name = _NAME.fullmatch(path.name)
            if name and name["key"].startswith(prefix.replace("/", "-")):
                found.add((name["key"].replace("-", "/"), name["upload"]))
        return [Unfinished(key, upload, _begun(upload)) for key, upload in sorted(found)]

    def touched(self, upload: Unfinished) -> datetime:
        """Tell when a file of an unfinished upload was written last."""
        times = []
        for path in self._files(upload):
            with suppress(FileNotFoundError):
                times.append(path.lstat().st_mtime)
        if not times:
            raise FileNotFoundError(errno.ENOENT, "the upload is no longer there")
        return datetime.fromtimestamp(max(times), UTC)

    def discard(self, upload: Unfinished) -> None:
        """Remove every file of an unfinished upload. Idempotent."""
        for path in self._files(upload):
            path.unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """Return where an object lies. The key was checked: it cannot leave the root."""
        return self.root / key

    def publish(self, path: Path, key: str) -> None:
        """Give a synced unfinished file its final name, durably. Raises FileExistsError if taken."""
        target = self.path(key)
        folders = self._above(key)
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                for folder in reversed(folders[:-1]):
                    self._make(folder)
                os.link(path, target, follow_symlinks=False)
                break
            path.lstat()  # raises if it is the upload that is gone
        else:
            raise StoreUnavailable("the folders above the object keep changing")
        try:
            path.unlink(missing_ok=True)
            # Each folder on the way, whoever made it: somebody else may not have come to its sync yet,
            # and may have removed and made it again since we last looked.
            for folder in folders:
                sync_folder(folder)
        except OSError:
            self._take_back(target, folders)
            raise

    def replace(self, path: Path, key: str) -> None:
        """Give a synced unfinished file the name of an object that is there, durably.

        Raises FileNotFoundError where there is none. If the folder cannot be synced either of the two
        may be there after a crash, and both are whole.
        """
        self.stat(key)
        target = self.path(key)
        path.replace(target)
        sync_folder(target.parent)

    def stat(self, key: str) -> Stat:
        """Describe an object. What is not a plain file counts as missing."""
        found = self.path(key).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a plain file")
        return Stat(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Remove an object and the folders that it leaves empty, durably. Raises FileNotFoundError."""
        self.path(key).unlink()
        for folder in self._above(key):
            try:
                if folder == self.root:
                    raise OSError  # noqa: TRY301 - the root stays, as a folder that is not empty
                folder.rmdir()
            except OSError:
                sync_folder(folder)
                return

    def walk(self, prefix: str) -> Iterator[Stat]:
        """Every object under a prefix, in key order. Holds the names of one folder a level."""
        above, slash, start = prefix.rpartition("/")
        self.root.stat()
        yield from self._walk(above + slash, start)

    def check(self) -> None:
        """Create and remove a file."""
        self.temporary("check").unlink()

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if not folder.is_dir():
                raise

    def _take_back(self, target: Path, folders: Sequence[Path]) -> None:
        """Remove a name that may not be on the disk, so that another try writes all of it anew."""
        try:
            target.unlink(missing_ok=True)
        except OSError:
            raise StoreDamaged("the disk keeps a name that it could not make durable") from None
        with suppress(OSError):
            for folder in folders[:-1]:
                folder.rmdir()

    def _walk(self, above: str, start: str) -> Iterator[Stat]:
        # "/" sorts before every other character of a key, so one folder after the other is key order.
        try:
            with os.scandir(self.root / above) as entries:
                names = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if entry.name.startswith(start) and _WORD.fullmatch(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, is_folder in names:
            if is_folder:
                yield from self._walk(f"{above}{name}/", "")
            else:
                with suppress(FileNotFoundError):
                    yield self.stat(above + name)

    def _temporaries(self) -> list[Path]:
        try:
            return list(self._unfinished.iterdir())
        except FileNotFoundError:
            self.root.stat()
            return []

    def _files(self, upload: Unfinished) -> list[Path]:
        name = f"{upload.key.replace('/', '-')}.{upload.id}"
        return [
            path
            for path in self._temporaries()
            if path.name == name or path.name.startswith(f"{name}.")
        ]

    def _above(self, key: str) -> list[Path]:
        """Return the folders of a key, the nearest first and the root last."""
        return [self.root / each for each in Path(key).parents]


def _begun(upload: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(upload[:16], 16) / _SECOND, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)  # not one of ours: old enough to be reaped
