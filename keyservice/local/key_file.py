"""A 0600 file that holds a root key: all of its versions, and the oldest that may still be used.

Changes are written whole and durably, one at a time under a lock, also between processes. Blocks: call it off
the event loop. Whoever reads the file has the key.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from keyservice.files import MAX_SECRET, read_secret, sync_folder, write_durably

KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class Generations:
    """The versions of a root key, the first at index 0; `supplied` is who makes them: the tenant.

    The last was made at `created`, in microseconds since the epoch.
    """

    minimum: int
    keys: tuple[bytes, ...] = field(repr=False)
    supplied: bool = False
    created: int = field(default_factory=lambda: time.time_ns() // 1000)

    @property
    def latest(self) -> int:
        """The version that wraps."""
        return len(self.keys)

    def rotated(self) -> Generations:
        """Return these and one more."""
        return self.extended(secrets.token_bytes(KEY_SIZE))

    def extended(self, key: bytes) -> Generations:
        """Return these and that one."""
        return replace(self, keys=(*self.keys, key), created=time.time_ns() // 1000)

    def retired(self, minimum: int) -> Generations:
        """Return these with none older than `minimum` in use; never a lower one than before."""
        return replace(self, minimum=min(self.latest, max(self.minimum, minimum)))


def ensure(path: Path, first: Generations | None = None) -> None:
    """Create the file unless there is one, with a new key or `first`; safe for two processes at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            first = first or Generations(1, (secrets.token_bytes(KEY_SIZE),))
            write_durably(path, _encode(first), replace=False)


def read(path: Path) -> Generations:
    """Return what the file holds; raise OSError, or ValueError when it is damaged."""
    try:
        document = json.loads(read_secret(path))
        keys = tuple(base64.b64decode(key, validate=True) for key in document["keys"])
        minimum, supplied = document["minimum"], document.get("supplied", False)
        created = document["created"]
    except (KeyError, TypeError) as error:
        raise ValueError("root key file is not one of ours") from error
    if not (isinstance(minimum, int) and 1 <= minimum <= len(keys) and isinstance(created, int)):
        raise ValueError("root key file names an impossible version or time")
    if any(len(key) != KEY_SIZE for key in keys):
        msg = f"root key file must hold keys of exactly {KEY_SIZE} bytes"
        raise ValueError(msg)
    return Generations(minimum, keys, supplied is True, created)


def change(path: Path, decide: Callable[[Generations], Generations]) -> Generations:
    """Replace what the file holds; raise FileNotFoundError when there is none, else as `read`.

    ValueError, too, when it would be too large to be read again.
    """
    with _locked(path):
        new = decide(read(path))
        content = _encode(new)
        if len(content) > MAX_SECRET:  # nobody could read it again
            raise ValueError("root key file holds as many versions as one can")
        write_durably(path, content, replace=True)
        return new


def remove(path: Path) -> None:
    """Remove the file, if there is one."""
    if path.exists():
        with _locked(path):
            path.unlink(missing_ok=True)
            sync_folder(path.parent)


def _encode(found: Generations) -> bytes:
    keys = [base64.b64encode(key).decode("ascii") for key in found.keys]
    document = {
        "minimum": found.minimum,
        "keys": keys,
        "supplied": found.supplied,
        "created": found.created,
    }
    return json.dumps(document).encode("ascii")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Order changes of the files of one folder."""
    if not path.parent.is_dir():
        raise FileNotFoundError(path)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file unlocks
        yield
