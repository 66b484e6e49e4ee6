"""Files that must survive a crash or hold a secret.

`write_durably` leaves either the old file or the whole new one. `read_secret` refuses a file that
others than its owner may read. Both block: call them off the event loop. `os_unavailable` maps what
goes wrong with either.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from keyservice.errors import Unavailable

PRIVATE = 0o600
MAX_SECRET = 65536


def read_secret(path: Path) -> bytes:
    """Return the content; raise PermissionError when group or others have any right to it."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            msg = f"{path} has mode {mode:04o}: make it {PRIVATE:04o}"
            raise PermissionError(msg)
        return file.read(MAX_SECRET)


def write_durably(path: Path, content: bytes, *, replace: bool, mode: int = PRIVATE) -> None:
    """Write the file atomically and fsync it; without `replace`, FileExistsError if it exists."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # A hard link is the rename that refuses to overwrite.
            os.link(temporary, path)
            temporary.unlink()
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or creation in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def os_unavailable(message: str) -> Iterator[None]:
    """Raise Unavailable with the message when the block fails on the disk or on what is there."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        raise Unavailable(message) from error
