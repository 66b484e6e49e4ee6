"""What the file system's errors mean to a store, in one table."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

_MEANING: dict[int | None, tuple[type[StoreError], str]] = {
    errno.ENOENT: (ObjectMissing, "no such object or upload"),
    errno.EISDIR: (ObjectMissing, "no such object"),
    errno.EEXIST: (ObjectExists, "the key is taken"),
    errno.ENOSPC: (StoreFull, "the folder's disk is full"),
    errno.EDQUOT: (StoreFull, "the folder's quota is used up"),
    errno.EFBIG: (StoreFull, "the file would be larger than the system allows"),
    errno.EACCES: (StoreDenied, "the folder may not be used: check its owner and mode"),
    errno.EPERM: (StoreDenied, "the folder may not be used: check its owner and mode"),
    errno.EROFS: (StoreDenied, "the folder's disk is mounted read-only"),
    errno.ENOTDIR: (StoreDenied, "a part of the key names an object, not a folder"),
    errno.ELOOP: (StoreDenied, "the folder holds a symbolic link where an object should be"),
}


@contextmanager
def file_errors(root: Path) -> Iterator[None]:
    """Turn every OSError into the StoreError that it means, in the thread where it happens.

    Nothing is missing from a root that is itself missing: that is a store which cannot be reached.
    """
    try:
        yield
    except OSError as error:
        kind, text = _MEANING.get(
            error.errno, (StoreUnavailable, f"the disk answered {error.strerror or 'an error'}")
        )
        if kind is ObjectMissing and not root.is_dir():
            kind, text = StoreUnavailable, "the folder is missing: create it or mount its disk"
        raise kind(text) from error
