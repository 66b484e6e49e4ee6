"""A store of objects, and what goes to and comes from it."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes on their way to stores, with their CRC-64/NVME computed once for all of them.

    `data` belongs to the caller, who keeps it unchanged until the call that took it has returned.
    """

    data: memoryview
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Stat:
    """An object in a store: key, size in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    id: str
    started: datetime


class PartUpload(Protocol):
    """One object being written in parts. Nothing is visible before `complete`.

    Parts are numbered from 1 without gaps and may be sent out of order and at the same time; all but
    the last have at least 5 MiB. A part sent again replaces the earlier one.
    """

    async def part(self, number: int, piece: Piece) -> None:
        """Send one part. Safe to repeat.

        Raises StoreUnavailable, StoreDamaged, StoreFull, StoreDenied, and ObjectMissing when the
        upload was aborted or discarded meanwhile.
        """

    async def complete(self) -> None:
        """Make the object visible, whole, and durable.

        Raises ObjectExists when the key is taken, ObjectMissing when the upload was aborted or
        discarded meanwhile, StoreDenied when parts are missing or there are none.
        """

    async def abort(self) -> None:
        """Throw the parts away. Idempotent; safe after a failure at any point."""


class Store(Protocol):
    """A place for objects under keys of `[a-z0-9/]`: created once, and but for envelopes never changed.

    Raises only `StoreError`s; StoreDenied for a key or a range that cannot be. Neither a key's tenant
    nor a blob's content means anything to it.
    """

    async def put(self, key: str, piece: Piece) -> None:
        """Create an object whole, durably, only if the key is free (else ObjectExists)."""

    async def replace(self, key: str, piece: Piece) -> None:
        """Put a whole object in place of the one under the key, durably. Safe to repeat.

        A reader gets all of the old one or all of the new one. Raises ObjectMissing where there is none,
        which is told before anything is written: a deletion that comes between may leave it there after
        all, unless the store can tell. For envelopes, whose wraps change.
        """

    async def begin(self, key: str) -> PartUpload:
        """Begin an upload in parts."""

    def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes | memoryview]:
        """Stream bytes [start, stop) of an object in pieces of at most 1 MiB, never fewer than asked.

        Raises ObjectMissing before the first piece; StoreDamaged when the object ends before `stop`;
        StoreUnavailable whenever the stream breaks. Closing the generator closes the connection (or
        gives it back) at once. `start == stop` yields nothing, without a request.
        """

    async def stat(self, key: str) -> Stat:
        """Describe an object. Raises ObjectMissing."""

    async def delete(self, key: str) -> None:
        """Remove an object. Idempotent: a missing one is no error."""

    def list(self, prefix: str) -> AsyncIterator[Stat]:
        """Every object under a prefix, in key order, page by page."""

    def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        """Every multipart upload under a prefix that nobody completed or aborted, of keys that can be."""

    async def touched(self, upload: Unfinished) -> datetime:
        """Tell when a part of somebody's unfinished upload was written last: `started` if none was.

        Raises ObjectMissing when it was completed, aborted or discarded meanwhile.
        """

    async def discard(self, upload: Unfinished) -> None:
        """Abort somebody's unfinished upload. Idempotent."""

    async def check(self) -> None:
        """Raise a StoreError unless the store is reachable and its bucket or folder is there."""

    async def close(self) -> None:
        """Give back connections. Idempotent."""
