"""A store in memory, for tests and as the smallest example of the port. Nothing survives it."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import ObjectExists, ObjectMissing, StoreDamaged, StoreDenied
from gateway.model import new_id, now
from gateway.ports import PartUpload, Piece, Stat, Unfinished
from gateway.stores.keys import checked_key, checked_prefix, checked_range

PIECE = 256 * 1024  # what one step of a read yields


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes = field(repr=False)
    modified: datetime


@dataclass(slots=True)
class _Parts:
    key: str
    started: datetime
    touched: datetime
    parts: dict[int, bytes] = field(default_factory=dict, repr=False)


class MemoryStore:
    """Objects in a dictionary. Each call takes effect in one step, so nothing can be half visible."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[str, _Parts] = {}

    async def put(self, key: str, piece: Piece) -> None:
        """See the port."""
        self._create(checked_key(key), bytes(piece.data))

    async def replace(self, key: str, piece: Piece) -> None:
        """See the port."""
        self._find(key)
        self._objects[key] = _Object(bytes(piece.data), now())

    async def begin(self, key: str) -> PartUpload:
        """See the port."""
        upload, at = new_id(), now()
        self._uploads[upload] = _Parts(checked_key(key), at, at)
        return _MemoryUpload(self, upload)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """See the port."""
        checked_range(start, stop)
        if start == stop:
            return
        data = self._find(key).data
        end = len(data) if stop is None else stop
        if max(start, end) > len(data):
            raise StoreDamaged("an object ends before the range that was asked of it")
        for at in range(start, end, PIECE):
            yield data[at : min(at + PIECE, end)]

    async def stat(self, key: str) -> Stat:
        """See the port."""
        found = self._find(key)
        return Stat(key, len(found.data), found.modified)

    async def delete(self, key: str) -> None:
        """See the port."""
        self._objects.pop(checked_key(key), None)

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        """See the port."""
        checked_prefix(prefix)
        for key, found in sorted(self._objects.items()):
            if key.startswith(prefix):
                yield Stat(key, len(found.data), found.modified)

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        """See the port."""
        checked_prefix(prefix)
        for upload, parts in list(self._uploads.items()):
            if parts.key.startswith(prefix):
                yield Unfinished(parts.key, upload, parts.started)

    async def touched(self, upload: Unfinished) -> datetime:
        """See the port."""
        checked_key(upload.key)
        found = self._uploads.get(upload.id)
        if found is None:
            raise ObjectMissing("the upload is no longer there")
        return found.touched

    async def discard(self, upload: Unfinished) -> None:
        """See the port."""
        checked_key(upload.key)
        self._uploads.pop(upload.id, None)

    async def check(self) -> None:
        """See the port."""

    async def close(self) -> None:
        """See the port."""

    def _find(self, key: str) -> _Object:
        found = self._objects.get(checked_key(key))
        if found is None:
            raise ObjectMissing("no such object")
        return found

    def _create(self, key: str, data: bytes) -> None:
        if key in self._objects:
            raise ObjectExists("the key is taken")
        self._objects[key] = _Object(data, now())


class _MemoryUpload:
    def __init__(self, store: MemoryStore, upload: str) -> None:
        self._store = store
        self._upload = upload

    async def part(self, number: int, piece: Piece) -> None:
        found = self._find()
        found.parts[number] = bytes(piece.data)
        found.touched = now()

    async def complete(self) -> None:
        found = self._find()
        if not found.parts or sorted(found.parts) != list(range(1, len(found.parts) + 1)):
            raise StoreDenied("an upload needs parts numbered from 1 without gaps")
        data = b"".join(part for _, part in sorted(found.parts.items()))
        self._store._create(found.key, data)  # noqa: SLF001 - the upload is a piece of the store
        self._store._uploads.pop(self._upload)  # noqa: SLF001

    async def abort(self) -> None:
        self._store._uploads.pop(self._upload, None)  # noqa: SLF001

    def _find(self) -> _Parts:
        found = self._store._uploads.get(self._upload)  # noqa: SLF001
        if found is None:
            raise ObjectMissing("the upload is no longer there")
        return found
