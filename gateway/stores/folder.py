"""A store in a folder: durable when a call returns, never half visible, overwritten by `replace` alone.

`folder_tree` tells where the files are and how they get there. This store does not check the bytes
that it reads back (the cipher does), does not follow symbolic links, and does not create its root: a
folder that is missing may be a disk that is not mounted.
"""

import functools
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gateway.errors import ObjectMissing, StoreDamaged
from gateway.ports import PartUpload, Piece, Stat, Unfinished
from gateway.stores.folder_errors import file_errors
from gateway.stores.folder_io import Reader, finish, write
from gateway.stores.folder_tree import Tree
from gateway.stores.folder_upload import FolderUpload
from gateway.stores.keys import checked_key, checked_prefix, checked_range
from gateway.stores.workers import Flag, Workers

READ = 1048576  # bytes of one read: large against a thread hop, small against a cache
PAGE = 1000  # objects of a listing that one hop looks up


class FolderStore:
    """Objects as files under `root`. Several processes may share it.

    What a disk should answer soon it must answer within `patience` seconds; `put`, `part` and
    `complete` take as long as their caller lets them. Cancelled, each returns at once.
    """

    def __init__(
        self, root: Path | str, *, name: str = "folder", threads: int = 8, patience: float = 30.0
    ) -> None:
        self._name = name
        self._tree = Tree(Path(root).absolute())
        self._workers = Workers(
            threads,
            f"store-{name}",
            functools.partial(file_errors, self._tree.root),
            patience=patience,
        )

    def __repr__(self) -> str:
        return f"FolderStore({self._name!r})"

    async def put(self, key: str, piece: Piece) -> None:
        """See the port."""
        stop = Flag()
        await self._workers.run_until(
            stop, self._put, checked_key(key), piece.data, stop, self._tree.publish
        )

    async def replace(self, key: str, piece: Piece) -> None:
        """See the port."""
        await self._workers.run(self._tree.stat, checked_key(key))
        stop = Flag()
        await self._workers.run_until(stop, self._put, key, piece.data, stop, self._tree.replace)

    async def begin(self, key: str) -> PartUpload:
        """See the port."""
        path = await self._workers.run(self._tree.temporary, checked_key(key))
        return FolderUpload(self._tree, self._workers, key, path)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """See the port."""
        checked_key(key)
        checked_range(start, stop)
        if start == stop:
            return
        reader = Reader(self._tree.path(key))
        try:
            size = await self._workers.run(reader.open)
            end = size if stop is None else stop
            if max(start, end) > size:
                raise StoreDamaged("an object ends before the range that was asked of it")
            while start < end:
                block = await self._workers.run(reader.read, start, min(start + READ, end))
                if not block:
                    raise StoreDamaged("an object was cut short while it was read")
                start += len(block)
                yield block
        finally:
            reader.close()

    async def stat(self, key: str) -> Stat:
        """See the port."""
        return await self._workers.run(self._tree.stat, checked_key(key))

    async def delete(self, key: str) -> None:
        """See the port."""
        with suppress(ObjectMissing):
            await self._workers.run(self._tree.delete, checked_key(key))

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        """See the port."""
        walk = self._tree.walk(checked_prefix(prefix))
        while page := await self._workers.run(list, itertools.islice(walk, PAGE)):
            for each in page:
                yield each

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        """See the port."""
        for each in await self._workers.run(self._tree.unfinished, checked_prefix(prefix)):
            yield each

    async def touched(self, upload: Unfinished) -> datetime:
        """See the port."""
        checked_key(upload.key)
        return await self._workers.run(self._tree.touched, upload)

    async def discard(self, upload: Unfinished) -> None:
        """See the port."""
        checked_key(upload.key)
        await self._workers.run(self._tree.discard, upload)

    async def check(self) -> None:
        """See the port."""
        await self._workers.run(self._tree.check)

    async def close(self) -> None:
        """See the port."""
        self._workers.close()

    def _put(
        self, key: str, data: memoryview, stop: Flag, name: Callable[[Path, str], None]
    ) -> None:
        path = self._tree.temporary(key)
        try:
            write(path, 0, data, stop)
            finish(path, len(data))
            stop.check()
            name(path, key)
        except BaseException:
            with suppress(OSError):  # the first error counts
                path.unlink(missing_ok=True)
            raise
