"""The audit sink that appends JSON lines to a file.

Guarantees: a line is on the disk (with `fsync`) before its request is answered; lines are whole,
numbered by `sequence` without gaps, and each carries the SHA-256 of the line before it in
`previous`; one process at a time writes a file. Requests that wait together share one fsync. After
a failed write the file is cut back to its last whole line, and so is a line torn by a crash: its
request was never answered. Not yet: signed checkpoints and rotation.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from keyservice.access.audit import AuditRecord
from keyservice.files import sync_folder

GENESIS = "0" * 64
MAX_WAITING = 10_000
MAX_LINE = 65536
CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class _Entry:
    records: Sequence[AuditRecord]
    written: Future[None]


class FileAuditSink:
    """One append-only file and the one thread that writes it."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self._path = path
        self._fsync = fsync
        self._descriptor = _open(path)
        try:
            self._length, self.sequence, self.previous = _recover(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._entries: queue.Queue[_Entry | None] = queue.Queue(MAX_WAITING)
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        self._closed = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """See `AuditSink.write`."""
        if self._closed:
            raise OSError("audit file is closed")
        entry = _Entry(tuple(records), Future())
        try:
            self._entries.put_nowait(entry)
        except queue.Full:
            raise OSError("audit file has too many records waiting") from None
        # Shielded: a caller who gives up must not cancel what the thread is about to resolve.
        await asyncio.shield(asyncio.wrap_future(entry.written))

    async def close(self) -> None:
        """See `AuditSink.close`."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(queue.Full):
            self._entries.put_nowait(None)
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT)

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._next_batch()
            try:
                self._append([record for entry in batch for record in entry.records])
            except Exception as error:  # noqa: BLE001 - every kind must reach those who wait
                for entry in batch:
                    entry.written.set_exception(OSError(f"audit file: {type(error).__name__}"))
            else:
                for entry in batch:
                    entry.written.set_result(None)
        os.close(self._descriptor)

    def _next_batch(self) -> tuple[list[_Entry], bool]:
        batch: list[_Entry] = []
        entry = self._entries.get()
        while entry is not None:
            batch.append(entry)
            try:
                entry = self._entries.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _append(self, records: Sequence[AuditRecord]) -> None:
        sequence, previous, lines = self.sequence, self.previous, bytearray()
        for record in records:
            sequence += 1
            document = {"sequence": sequence, "previous": previous} | record.to_document()
            line = json.dumps(document, separators=(",", ":")).encode()
            previous = hashlib.sha256(line).hexdigest()
            lines += line + b"\n"
        try:
            self._write(lines)
        except OSError:
            # What may be there in part is nobody's answer: the next write begins at a whole line.
            os.ftruncate(self._descriptor, self._length)
            raise
        self.sequence, self.previous = sequence, previous
        self._length += len(lines)

    def _write(self, lines: bytearray) -> None:
        rest = memoryview(lines)
        offset = self._length
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        if self._fsync:
            os.fdatasync(self._descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(path.parent)
    except BlockingIOError:
        os.close(descriptor)
        msg = f"{path} is another process's audit file: give each its own"
        raise BlockingIOError(msg) from None
    return descriptor


def _recover(descriptor: int) -> tuple[int, int, str]:
    """Cut off a torn last line; return the length, the last sequence number and its hash."""
    length = os.fstat(descriptor).st_size
    start = max(0, length - 2 * MAX_LINE)
    tail = os.pread(descriptor, length - start, start)
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        if start:
            raise ValueError("audit file does not end in a line of records")
        os.ftruncate(descriptor, 0)
        return 0, 0, GENESIS
    os.ftruncate(descriptor, start + len(whole))
    line = whole[:-1].rpartition(b"\n")[2]
    try:
        sequence = int(json.loads(line)["sequence"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("audit file does not end in a record: move it away") from None
    return start + len(whole), sequence, hashlib.sha256(line).hexdigest()
