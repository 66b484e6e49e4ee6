"""What only a folder has: files, modes, links, and a disk that may not be there."""

import os
import stat
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.errors import ObjectMissing, StoreDenied, StoreError, StoreUnavailable
from gateway.ports import Piece, Unfinished
from gateway.stores import folder_upload
from gateway.stores.folder import FolderStore
from tests.doubles.system import system_calls

KEY = "t/a/b/body"


def piece(data: bytes = b"sealed") -> Piece:
    return Piece(memoryview(data), 0)


async def content(store: FolderStore, key: str) -> bytes:
    return b"".join([each async for each in store.read(key)])


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


def modes(root: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for path in root.rglob("*"):
        kind = "folder" if path.is_dir() else "file"
        found.setdefault(kind, set()).add(stat.S_IMODE(path.stat().st_mode))
    return found


async def test_only_the_owner_may_look(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    upload = await store.begin("t/a/c/body")
    await upload.part(2, piece())
    assert modes(tmp_path) == {"folder": {0o700}, "file": {0o600}}
    await store.close()


async def test_an_object_is_the_file_of_its_key(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    assert files(tmp_path) == [KEY]
    assert (tmp_path / KEY).read_bytes() == b"sealed"
    await store.close()


async def test_the_last_object_takes_its_folders_with_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    await store.put("t/a/c/body", piece())
    await store.delete(KEY)
    assert not (tmp_path / "t/a/b").exists()
    assert (tmp_path / "t/a").exists()
    await store.delete("t/a/c/body")
    assert not (tmp_path / "t").exists()
    await store.put(KEY, piece())
    await store.close()


async def test_a_root_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "unmounted")
    for call in (
        store.check(),
        store.put(KEY, piece()),
        store.begin(KEY),
        store.stat(KEY),
        store.delete(KEY),
        content(store, KEY),
        anext(store.list("")),
        anext(store.unfinished("")),
        store.discard(Unfinished(KEY, "0" * 32, None)),  # type: ignore[arg-type]
    ):
        with pytest.raises(StoreUnavailable, match="mount"):
            await call
    assert not (tmp_path / "unmounted").exists()
    await store.close()


async def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "t").mkdir(parents=True)
    (root / "t/link").symlink_to(tmp_path / "outside/secret")
    store = FolderStore(root)
    with pytest.raises(StoreDenied):
        await content(store, "t/link")
    with pytest.raises(ObjectMissing):
        await store.stat("t/link")
    assert [each async for each in store.list("")] == []
    await store.delete("t/link")
    assert (tmp_path / "outside/secret").exists()
    await store.close()


async def test_foreign_files_are_no_objects(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    for name in ("lost+found", "README.md", "t/a/b/.hidden", "t/Upper", ".unfinished/notes"):
        (tmp_path / name).write_bytes(b"")
    assert [each.key async for each in store.list("")] == [KEY]
    assert [each async for each in store.unfinished("")] == []
    await store.delete(KEY)
    assert (tmp_path / "t/a/b/.hidden").exists()
    await store.close()


async def test_a_folder_is_no_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    with pytest.raises(ObjectMissing):
        await store.stat("t/a")
    with pytest.raises(ObjectMissing):
        await content(store, "t/a")
    with pytest.raises(StoreError):
        await store.put(f"{KEY}/below", piece())
    assert files(tmp_path) == [KEY]
    await store.close()


async def test_parts_in_order_are_never_copied(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    upload = await store.begin(KEY)
    for number in (1, 2, 3):
        await upload.part(number, piece(bytes([number]) * 1000))
    await upload.part(2, piece(b"x" * 1000))  # as long as before: written in its place
    with patch.object(folder_upload, "copy", side_effect=AssertionError):
        await upload.complete()
    assert await content(store, KEY) == b"\1" * 1000 + b"x" * 1000 + b"\3" * 1000
    assert files(tmp_path) == [KEY]
    await store.close()


async def test_parts_that_had_to_wait_leave_no_files(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    upload = await store.begin(KEY)
    await upload.part(3, piece(b"c"))
    await upload.part(1, piece(b"aaaa"))
    await upload.part(1, piece(b"a"))
    await upload.part(2, piece(b"b"))
    await upload.complete()
    assert await content(store, KEY) == b"abc"
    assert files(tmp_path) == [KEY]
    await store.close()


async def test_another_process_finds_and_discards_what_is_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    upload = await store.begin(KEY)
    await upload.part(1, piece())
    await upload.part(3, piece())
    await store.close()
    other = FolderStore(tmp_path)
    (left,) = [each async for each in other.unfinished("t/a")]
    assert left.key == KEY
    await other.discard(left)
    assert files(tmp_path) == []
    await other.close()


async def test_a_discard_cannot_leave_its_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.put(KEY, piece())
    upload = await store.begin(KEY)
    (left,) = [each async for each in store.unfinished("")]
    for trick in ("", "..", "../../t/a/b/body", "*", left.id[:5]):
        await store.discard(Unfinished(KEY, trick, left.started))
    assert KEY in files(tmp_path)
    await upload.part(1, piece())
    await upload.abort()
    await store.close()


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.stat(KEY)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_of_somebody_else_is_denied(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    os.chmod(tmp_path, 0)  # noqa: PTH101 - for a moment only
    try:
        with pytest.raises(StoreDenied):
            await store.put(KEY, piece())
    finally:
        os.chmod(tmp_path, 0o700)  # noqa: PTH101
    await store.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record, in order, what was put on the disk and what was given its name."""
    told: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        told.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.split(".")[0])
        fsync(descriptor)

    def watched_link(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        told.append("link")
        link(source, target, follow_symlinks=follow_symlinks)

    system_calls(monkeypatch, "gateway.stores.folder_io", fsync=watched_fsync)
    system_calls(monkeypatch, "gateway.stores.folder_tree", link=watched_link)
    return told


async def test_bytes_are_on_the_disk_before_their_name(tmp_path: Path, steps: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store = FolderStore(root)
    await store.put("t/a/b/body", piece())
    assert steps == ["t-a-b-body", "link", "b", "a", "t", "root"]
    steps.clear()
    upload = await store.begin("t/a/c/body")
    await upload.part(1, piece())
    await upload.complete()
    assert steps == ["t-a-c-body", "link", "c", "a", "t", "root"]
    for key in ("t/a/b/body", "t/a/c/body"):
        await store.delete(key)
    steps.clear()
    await store.put("t/a/b/body", piece())
    assert steps == ["t-a-b-body", "link", "b", "a", "t", "root"]
    await store.close()


async def test_folders_that_somebody_else_made_are_synced(tmp_path: Path, steps: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    one, other = FolderStore(root), FolderStore(root)
    await one.put("t/a/b/body", piece())
    await other.delete("t/a/b/body")
    (root / "t/a/c").mkdir(parents=True)  # the other one again, which has not come to its syncs
    steps.clear()
    await one.put("t/a/b/body", piece())
    assert steps == ["t-a-b-body", "link", "b", "a", "t", "root"]
    await one.close()
    await other.close()
