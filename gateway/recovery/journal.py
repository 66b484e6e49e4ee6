"""The journal of a restore: what was done, so that a run which was killed goes on where it was.

JSON lines in one file: a header that says what the run is about, then one line a version, appended and
synchronised in batches. It names versions by their ids and nothing by a name that a user chose.
Guarantees that what it holds was done before it was written, that a line cut off by a crash is dropped
and never half believed, that a journal of another run is refused, and that two runs never share one.
It does not say that what was done is still there: who resumes looks.
"""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Self

from gateway.model import new_id, now

_FORMAT: Final = "sealgate restore journal 1"
_LINE: Final = 64 * 1024


class JournalRefused(Exception):
    """A journal that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one version. `size` in bytes; `source` is a target; `reason` a few words."""

    version: str
    tenant: str
    outcome: str
    size: int
    source: str = ""
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """How many versions, and bytes of them, ended in which way.

    `settled` is how those ended that an earlier part of the run brought to an end, by 16 bytes of id.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    settled: dict[bytes, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count one version, and no longer as what it counted for before."""
        before = self.settled.pop(bytes.fromhex(entry.version), None)
        if before is not None:
            self.counts[before] -= 1
            self.sizes[before] -= entry.size
        self.counts[entry.outcome] += 1
        self.sizes[entry.outcome] += entry.size

    def settle(self, entry: Entry) -> None:
        """Count one of an earlier part that is not to be done again."""
        self.add(entry)
        self.settled[bytes.fromhex(entry.version)] = sys.intern(entry.outcome)

    def reopen(self, entry: Entry) -> None:
        """Count one of an earlier part for nothing: it is done again."""
        self.add(entry)
        self.counts[entry.outcome] -= 1
        self.sizes[entry.outcome] -= entry.size


class Journal:
    """One open journal. Every method blocks; the attributes do not."""

    def __init__(self, path: Path, file: IO[bytes], header: Mapping[str, Any]) -> None:
        self.path = path
        self.run = str(header["run"])
        self.started = datetime.fromisoformat(str(header["started"]))
        self.resumed = False
        self.tally = Tally()
        self._file = file

    @classmethod
    def open(
        cls,
        path: Path,
        about: Mapping[str, Any],
        *,
        done: Sequence[str],
        oldest: timedelta = timedelta(days=1),
        fresh: bool = False,
    ) -> Self:
        """Go on with the journal at `path` if it is about the same, or begin one.

        `done` are the outcomes that need no more work. One that nobody wrote to for `oldest`, or any if
        `fresh`, is moved aside. Raises JournalRefused, OSError.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(_locked(path))
            header = _header(file)
            if header is not None and (fresh or _age(file) > oldest):
                path.replace(path.with_name(f"{path.name}.{header['run']}.old"))
                file.close()
                file, header = stack.enter_context(_locked(path)), None
            if header is None:
                journal = cls._begin(path, file, about)
            elif header["about"] != dict(about):
                raise JournalRefused(f"{path} is the journal of another restore: name another")
            else:
                journal = cls._resume(path, file, header, done)
            stack.pop_all()
            return journal

    @classmethod
    def _begin(cls, path: Path, file: IO[bytes], about: Mapping[str, Any]) -> Self:
        header = {
            "journal": _FORMAT,
            "run": new_id(),
            "started": now().isoformat(),
            "about": dict(about),
        }
        file.seek(0)
        file.truncate()
        file.write(_text(header))
        journal = cls(path, file, header)
        journal._sync()
        _sync_folder(path)
        return journal

    @classmethod
    def _resume(
        cls, path: Path, file: IO[bytes], header: Mapping[str, Any], done: Sequence[str]
    ) -> Self:
        journal = cls(path, file, header)
        journal.resumed = True
        whole = file.tell()
        for line in iter(lambda: file.readline(_LINE), b""):
            if not line.endswith(b"\n"):
                break  # the crash cut it off: what it says is done again
            entry = _entry(line, path)
            whole += len(line)
            if entry.outcome in done:
                journal.tally.settle(entry)
            else:
                journal.tally.reopen(entry)
        file.truncate(whole)
        file.seek(whole)
        return journal

    def write(self, entries: Sequence[Entry]) -> None:
        """Append entries, durable on return."""
        self._file.write(b"".join(_text(_brief(entry)) for entry in entries))
        self._sync()

    def entries(self) -> Iterator[Entry]:
        """Read every entry that was written, from the first."""
        with self.path.open("rb") as file:
            _header(file)
            for line in file:
                yield _entry(line, self.path)

    def digest(self) -> dict[str, Any]:
        """Return what ties the file, as it is now, to a report."""
        running, size, lines = hashlib.sha256(), 0, 0
        with self.path.open("rb") as file:
            for line in file:
                running.update(line)
                size, lines = size + len(line), lines + 1
        return {"sha256": running.hexdigest(), "bytes": size, "lines": lines}

    @property
    def kept(self) -> Path:
        """Where the file goes once the run has ended."""
        return self.path.with_name(f"{self.path.stem}.{self.run}.items.jsonl")

    def finish(self) -> Path:
        """Put the file where no later run takes it for its own; return that place."""
        self.path.replace(self.kept)
        _sync_folder(self.path)
        return self.kept

    def close(self) -> None:
        """Let another run have the file. Idempotent."""
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _locked(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    file = os.fdopen(os.open(path, flags, 0o600), "r+b")
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Not so if another run ended, and put it away, between our two calls.
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
    file.close()
    raise JournalRefused(f"another restore is using {path}: wait for it to end")


def _header(file: IO[bytes]) -> dict[str, Any] | None:
    """Return the header, or None where a crash left none."""
    line = file.readline(_LINE)
    if not line.endswith(b"\n"):
        return None
    try:
        header = json.loads(line)
        if header["journal"] == _FORMAT and {"run", "started", "about"} <= header.keys():
            return dict(header)
    except (ValueError, KeyError, TypeError):
        pass
    raise JournalRefused("the file is no journal of this version: name another, or move it away")


def _age(file: IO[bytes]) -> timedelta:
    return now() - datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, now().tzinfo)


def _entry(line: bytes, path: Path) -> Entry:
    try:
        entry = Entry(**json.loads(line))
        if re.fullmatch("[0-9a-f]{32}", entry.version):
            return entry
    except (ValueError, TypeError):
        pass
    raise JournalRefused(f"{path} is damaged: move it away and begin again")


def _brief(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "version": entry.version,
        "tenant": entry.tenant,
        "outcome": entry.outcome,
        "size": entry.size,
    }
    more = {"source": entry.source, "reason": entry.reason}
    return shown | {name: value for name, value in more.items() if value}


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
