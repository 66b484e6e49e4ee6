"""A disk that tells an error of a sync once, as Linux does: what it lost is never acknowledged."""

import errno
import os
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.ports import Piece
from gateway.stores.folder import FolderStore
from gateway.stores.folder_tree import Tree
from gateway.stores.retrying import RetryingStore
from tests.contracts.stores.faulty import no_sleep
from tests.doubles.system import system_calls

KEY = "t/a/b/body"
SYNCS = 5  # of one object: its bytes, and the four folders on the way
DATA = b"sealed" * 1000


def piece() -> Piece:
    return Piece(memoryview(DATA), 0)


class Disk:
    """Fails the sync with the given number below `root`, once, and counts them.

    A thread that an earlier test left hanging may sync its own files meanwhile.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, fails: int) -> None:
        self._root = root.resolve()
        self._real = os.fsync
        self._fails = fails
        self.syncs = 0
        system_calls(monkeypatch, "gateway.stores.folder_io", fsync=self._fsync)

    def _fsync(self, descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self._root):
            self.syncs += 1
            if self.syncs == self._fails:
                raise OSError(errno.EIO, "input/output error")
        self._real(descriptor)


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


@pytest.mark.parametrize("fails", range(1, SYNCS + 1))
async def test_an_upload_that_was_not_synced_is_not_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    upload = await store.begin(KEY)
    await upload.part(1, piece())
    Disk(monkeypatch, tmp_path, fails)
    for _ in range(2):
        with pytest.raises(StoreError):
            await upload.complete()
    assert files(tmp_path) == []
    await store.close()


async def test_parts_that_were_gathered_and_not_synced_are_not_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    upload = await store.begin(KEY)
    await upload.part(2, piece())
    await upload.part(1, piece())
    Disk(
        monkeypatch, tmp_path, fails=2
    )  # the bytes of the part that waited, of which the page cache told
    with pytest.raises(StoreError):
        await upload.complete()
    assert files(tmp_path) == []
    await store.close()


@pytest.mark.parametrize("fails", range(1, SYNCS + 1))
async def test_a_put_that_was_not_synced_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    disk = Disk(monkeypatch, tmp_path, fails)
    await store.put(KEY, piece())
    assert disk.syncs == fails + SYNCS  # every one of them again
    assert (tmp_path / KEY).read_bytes() == DATA
    assert files(tmp_path) == [KEY]
    await store.close()


async def test_a_name_that_cannot_be_taken_back_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    Disk(monkeypatch, tmp_path, fails=2)
    real = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == "body":
            raise OSError(errno.EIO, "input/output error")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreError, match="could not make durable"):
        await store.put(KEY, piece())
    await store.close()


async def test_an_upload_whose_files_cannot_be_removed_stays_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    upload = await store.begin(KEY)
    await upload.part(1, piece())
    Disk(monkeypatch, tmp_path, fails=1)

    def unlink(_path: Path, *, missing_ok: bool = False) -> None:  # noqa: ARG001 - as the real one
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreError):
        await upload.complete()
    assert not (tmp_path / KEY).exists()
    await store.close()


def test_taking_back_leaves_what_others_put_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path)
    tree.publish(tree.temporary(KEY), KEY)
    Disk(monkeypatch, tmp_path, fails=1)
    with pytest.raises(OSError, match="input/output"):
        tree.publish(tree.temporary("t/a/b/envelope"), "t/a/b/envelope")
    assert files(tmp_path) == [KEY]


@pytest.mark.parametrize("fails", [1, 2])  # its bytes, the folder of its name
async def test_a_replacement_that_was_not_synced_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    store = RetryingStore(FolderStore(tmp_path), sleep=no_sleep)
    await store.put(KEY, Piece(memoryview(b"old"), 0))
    disk = Disk(monkeypatch, tmp_path, fails)
    await store.replace(KEY, piece())
    assert disk.syncs == fails + 2
    assert (tmp_path / KEY).read_bytes() == DATA
    assert files(tmp_path) == [KEY]
    await store.close()
