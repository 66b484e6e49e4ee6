"""One object on its way into a folder store, in parts.

Each part is written to its place in one file as soon as the sizes of those before it are known. One
that overtakes another, or comes again with another size, waits in a file of its own, and `complete`
copies the whole once; a sender that begins its parts in order never pays for that.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ObjectMissing, StoreDenied
from gateway.ports import Piece
from gateway.stores.folder_io import copy, create, finish, write
from gateway.stores.folder_tree import Tree
from gateway.stores.workers import Flag, Workers


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes of a part are."""

    path: Path
    offset: int
    size: int


class FolderUpload:
    """See `PartUpload`. Holds no open file, so one that is forgotten costs nothing but disk."""

    def __init__(self, tree: Tree, workers: Workers, key: str, path: Path) -> None:
        self._tree = tree
        self._workers = workers
        self._key = key
        self._path = path
        self._planned: dict[int, _Place] = {}  # in the one file, without gaps
        self._written: dict[int, _Place] = {}
        self._beside: set[Path] = set()
        self._end = 0
        self._lost = False

    async def part(self, number: int, piece: Piece) -> None:
        """See the port."""
        place = self._place(number, len(piece.data))
        self._written.pop(number, None)
        stop = Flag()
        await self._workers.run_until(stop, self._part, place, piece.data, stop)
        self._written[number] = place

    async def complete(self) -> None:
        """See the port."""
        numbers = sorted(self._written)
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise StoreDenied("an upload needs parts numbered from 1 without gaps")
        places, stop = [self._written[each] for each in numbers], Flag()
        await self._workers.run_until(stop, self._complete, places, stop)

    async def abort(self) -> None:
        """See the port."""
        await self._workers.run(self._abort)

    def _place(self, number: int, size: int) -> _Place:
        planned = self._planned.get(number)
        if planned is None and number == len(self._planned) + 1:
            planned = self._planned[number] = _Place(self._path, self._end, size)
            self._end += size
        if planned is not None and planned.size == size:
            return planned
        return _Place(self._name(f"{number:05d}"), 0, size)

    def _part(self, place: _Place, data: memoryview, stop: Flag) -> None:
        if place.path != self._path:
            place.path.unlink(missing_ok=True)
            self._create(place.path)
        write(place.path, place.offset, data, stop)

    def _complete(self, places: list[_Place], stop: Flag) -> None:
        if self._lost:
            raise ObjectMissing("the upload is no longer there")
        try:
            path = self._path if self._contiguous(places) else self._gathered(places)
            finish(path, sum(place.size for place in places))
        except OSError:
            # A disk tells once only that it lost bytes: nobody may complete this any more.
            self._lost = True
            with suppress(OSError):
                self._abort()
            raise
        stop.check()
        self._tree.publish(path, self._key)
        self._abort()

    def _contiguous(self, places: list[_Place]) -> bool:
        return places == [self._planned.get(number) for number in range(1, len(places) + 1)]

    def _gathered(self, places: list[_Place]) -> Path:
        whole = self._name("whole")
        whole.unlink(missing_ok=True)
        self._create(whole)
        offset = 0
        for place in places:
            copy(place.path, place.offset, place.size, whole, offset)
            offset += place.size
        return whole

    def _create(self, path: Path) -> None:
        self._path.lstat()  # an upload that was discarded gets no new files
        self._beside.add(path)
        create(path)

    def _name(self, extension: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{extension}")

    def _abort(self) -> None:
        for path in (self._path, *self._beside):
            path.unlink(missing_ok=True)
