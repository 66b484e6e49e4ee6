"""A SQLite file that several processes write to: how one gets its turn, and when what it wrote is on disk.

SQLite lets in whoever asks first, and by itself asks ten times a second once somebody has waited for long.
Here one asks more often, and the more patiently the longer it has taken, so that whoever holds the lock for
some milliseconds delays nobody for a hundred. One that gives way asks seldom.

What was committed with `synchronous=NORMAL` is on disk once the write-ahead log is, or what is no longer in
it has been moved to the file, which syncs both. So a log can be synced behind the lock rather than under it.
"""

import fcntl
import os
import sqlite3
from contextlib import suppress
from os import fsync
from pathlib import Path
from time import monotonic, sleep

SHORTEST, LONGEST = 0.0002, 0.005  # seconds between two questions
_PART = 0.1  # of the time that has been waited already
_PRIMARY = 0xFF  # of an error code, the part that is not about details


def begin(driver: sqlite3.Connection, statement: str, patience: float, *, shortest: float) -> None:
    """Begin a transaction on a connection whose own wait is off. Raises what SQLite does after that."""
    began = monotonic()
    while True:
        try:
            driver.execute(statement).close()
        except sqlite3.OperationalError as error:
            waited = monotonic() - began
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or waited > patience:
                raise
            sleep(min(max(waited * _PART, shortest), LONGEST))
        else:
            return


def sync(path: Path) -> None:
    """Return when all that was committed to the file at `path`, by whomever, is on disk. For threads."""
    with suppress(FileNotFoundError):  # nothing is in it
        # To close it costs nobody a lock: none is on this file.
        log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            if full := getattr(fcntl, "F_FULLFSYNC", None):  # macOS, as `PRAGMA fullfsync` does
                fcntl.fcntl(log, full)
            else:
                fsync(log)
        finally:
            os.close(log)
