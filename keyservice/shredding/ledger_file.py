"""The shred ledger of an instance: a file of signed lines, and beside it the key that signs them.

Guarantees: an entry is on the disk before anything is destroyed for it; lines are only ever appended;
one process at a time has the file; a line torn by a crash is cut off, since nobody acted on it; and a
file that holds anything else that no trusted key signed is not opened at all. The first line of a file
is the name of its own ledger, which a file made anew never shares.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import fcntl
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from envelope.signature import SignatureRefused, Signer, demand_public, new_signer, signer_of
from keyservice.errors import Invalid, Unavailable
from keyservice.files import read_secret, sync_folder, write_durably
from keyservice.records import ShredOrder
from keyservice.shredding.ledger import (
    GENESIS,
    Destruction,
    Entry,
    is_vouched,
    new_entry,
    read_entry,
    vouched_order,
)

HEAD = "sealgate shred ledger "
_HEAD = re.compile(HEAD + r"([0-9a-f]{32})")


class LedgerFile:
    """See `ledger.Ledger`. Everything it holds is in memory, too: an entry is about a kilobyte."""

    def __init__(self, path: Path, key_file: Path, trusted: Sequence[str] = ()) -> None:
        """Open the file, or make it and its key. Blocks; raises OSError and ValueError."""
        try:
            others = [demand_public(key) for key in trusted]
        except SignatureRefused as error:
            raise ValueError(str(error)) from None
        self._signer = ensure_key(key_file)
        self._trusted = list(dict.fromkeys([self._signer.public, *others]))
        self._writing = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._order: list[str] = []
        self._dead: dict[str, Entry] = {}
        self._head = (0, GENESIS)
        self._path = path
        self._descriptor: int | None = _open(path)
        try:
            self._name, self._length = self._load()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def public(self) -> str:
        """See `Ledger.public`."""
        return self._signer.public

    def of(self, tenant: str) -> Entry | None:
        """See `Ledger.of`."""
        return self._dead.get(tenant)

    def tenants(self) -> Sequence[str]:
        """See `Ledger.tenants`."""
        return list(self._dead)

    def page(self, after: str, limit: int) -> Sequence[Entry]:
        """See `Ledger.page`."""
        start = bisect.bisect_right(self._order, after)
        return [self._entries[name] for name in self._order[start : start + limit]]

    async def add(self, destruction: Destruction) -> Entry:
        """See `Ledger.add`."""
        with _unavailable():
            return await asyncio.to_thread(self._add, destruction)

    async def take(self, texts: Sequence[str]) -> Sequence[Entry]:
        """See `Ledger.take`."""
        try:
            entries = [read_entry(text, self._trusted) for text in texts]
        except ValueError as error:
            raise Invalid(str(error)) from None
        with _unavailable():
            return await asyncio.to_thread(self._take, entries)

    def sign(self, document: dict[str, Any]) -> dict[str, Any]:
        """See `Ledger.sign`."""
        return self._signer.sign(document)

    def vouch(self, tenant: str, order: ShredOrder) -> ShredOrder:
        """See `Ledger.vouch`."""
        return vouched_order(self._signer, tenant, order)

    def vouched(self, tenant: str, order: ShredOrder) -> bool:
        """See `Ledger.vouched`."""
        return is_vouched(tenant, order, self._trusted)

    async def close(self) -> None:
        """See `Ledger.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._writing:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _add(self, destruction: Destruction) -> Entry:
        with self._writing:
            if (known := self._dead.get(destruction.tenant)) is not None:
                return known
            index, previous = self._head
            entry = new_entry(self._signer, self._name, index + 1, previous, destruction)
            self._append([entry])
            return entry

    def _take(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        with self._writing:
            unknown = {entry.hash: entry for entry in entries if entry.hash not in self._entries}
            new = list(unknown.values())
            if new:
                self._append(new)
            return new

    def _append(self, entries: Sequence[Entry]) -> None:
        if self._descriptor is None:
            raise OSError("shred ledger is closed")
        lines = "".join(entry.text + "\n" for entry in entries).encode()
        self._length = _write(self._descriptor, lines, self._length)
        for entry in entries:
            self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        if entry.hash in self._entries:
            return
        self._entries[entry.hash] = entry
        bisect.insort(self._order, entry.hash)
        tenant = entry.destruction.tenant
        first = self._dead.get(tenant)
        if first is None or _age(entry) < _age(first):
            self._dead[tenant] = entry
        # Of our own ledger also what came back to us: a file from before must not fork it.
        if entry.ledger == self._name and entry.index > self._head[0]:
            self._head = (entry.index, entry.hash)

    def _load(self) -> tuple[str, int]:
        assert self._descriptor is not None  # noqa: S101 - it was opened a line ago
        data = _read(self._descriptor)
        whole = data[: data.rfind(b"\n") + 1]
        try:
            lines = whole.decode("ascii").splitlines()
        except UnicodeDecodeError:
            raise ValueError(self._damaged(1, "not text")) from None
        if not lines:
            self._name = secrets.token_hex(16)
            os.ftruncate(self._descriptor, 0)
            head = f"{HEAD}{self._name}\n".encode()
            return self._name, _write(self._descriptor, head, 0)
        head_line = _HEAD.fullmatch(lines[0])
        if head_line is None:
            raise ValueError(self._damaged(1, "not the head of a ledger"))
        self._name = head_line[1]
        for number, line in enumerate(lines[1:], 2):
            try:
                self._learn(read_entry(line, self._trusted))
            except ValueError as error:
                raise ValueError(self._damaged(number, str(error))) from None
        os.ftruncate(self._descriptor, len(whole))
        return self._name, len(whole)

    def _damaged(self, number: int, why: str) -> str:
        return (
            f"{self._path}: line {number}: {why}: trust the key that signed it, or move the file "
            "away, and its entries come back from the targets"
        )


def ensure_key(path: Path) -> Signer:
    """Return the signer of a key file, which is made unless it is there. Blocks; OSError, ValueError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_durably(path, new_signer().pem, replace=False)
    try:
        return signer_of(read_secret(path))
    except ValueError:
        msg = f"{path} holds no Ed25519 key"
        raise ValueError(msg) from None


def _age(entry: Entry) -> tuple[int, str]:
    return entry.destruction.at, entry.hash


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)
        sync_folder(path.parent)
    except BlockingIOError:
        os.close(descriptor)
        msg = f"{path} is another process's shred ledger: give each its own"
        raise BlockingIOError(msg) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int) -> bytes:
    size, data = os.fstat(descriptor).st_size, bytearray()
    while len(data) < size and (piece := os.pread(descriptor, size - len(data), len(data))):
        data += piece
    return bytes(data)


def _write(descriptor: int, lines: bytes, offset: int) -> int:
    """Append durably; return the new length. What failed in part is cut off again."""
    rest, end = memoryview(lines), offset
    try:
        while rest:
            written = os.pwrite(descriptor, rest, end)
            rest, end = rest[written:], end + written
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
    return end


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable("shred ledger cannot be written") from error
