"""The local root's files: who may read them, and what becomes of damaged ones."""

# ruff: noqa: ASYNC240 - a test may wait for its disk

import base64
import contextlib
import dataclasses
import json
import secrets
import stat
from pathlib import Path

import pytest

from keyservice.errors import Unavailable
from keyservice.files import read_secret, write_durably
from keyservice.local.key_file import Generations, read
from keyservice.local.key_file import ensure as ensure_root_key
from keyservice.local.root import LocalRoot
from keyservice.local.store import FolderKeyStore
from keyservice.records import (
    OWN,
    SHARED,
    Custody,
    KekState,
    KekVersion,
    RootRef,
    TenantRecord,
    TenantState,
    Tier,
    to_document,
)

TENANT = "a" * 32
KEY = base64.b64encode(bytes(32)).decode()
BROKEN = [
    json.dumps(document).encode()
    for document in (
        {"minimum": 1, "keys": [], "created": 1},
        {"minimum": 0, "keys": [KEY], "created": 1},
        {"minimum": 2, "keys": [KEY], "created": 1},
        {"minimum": "1", "keys": [KEY], "created": 1},
        {"minimum": 1, "keys": ["AAAA"], "created": 1},
        {"minimum": 1, "keys": [1], "created": 1},
        {"keys": [KEY], "created": 1},
        {"minimum": 1, "keys": [KEY]},
        {"minimum": 1, "keys": [KEY], "created": "1"},
    )
]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Give a fresh root key."""
    path = tmp_path / "keys" / "root.key"
    ensure_root_key(path)
    return path


def test_a_new_root_key_is_private_and_stays(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_bytes()
    assert len(read(key_file).keys[0]) == 32
    ensure_root_key(key_file)
    assert key_file.read_bytes() == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
async def test_a_root_key_that_others_may_read_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    root = LocalRoot(key_file)
    with pytest.raises(Unavailable):
        await root.wrap(TENANT, SHARED, bytes(32))
    assert not (await root.status()).healthy


@pytest.mark.parametrize("content", [b"", b"{}", bytes(32), *BROKEN])
async def test_a_root_key_of_the_wrong_size_is_refused(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    root = LocalRoot(key_file)
    with pytest.raises(Unavailable):
        await root.wrap(TENANT, SHARED, bytes(32))
    assert not (await root.status()).healthy


async def test_a_root_key_that_is_gone_is_unavailable_and_not_made_anew(key_file: Path) -> None:
    key_file.unlink()
    with pytest.raises(Unavailable):
        await LocalRoot(key_file).wrap(TENANT, SHARED, bytes(32))
    assert not key_file.exists()


async def test_a_business_tenant_has_its_own_private_file(key_file: Path) -> None:
    root = LocalRoot(key_file)
    await root.create(TENANT, OWN)
    own = key_file.parent / "root.key.tenants" / f"{TENANT}.key"
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
    wrapped = await root.wrap(TENANT, OWN, bytes(32))
    key_file.unlink()
    assert await root.unwrap(TENANT, OWN, wrapped) == bytes(32)


async def test_nothing_of_the_key_is_shown(key_file: Path) -> None:
    root = LocalRoot(key_file)
    status = await root.status()
    assert "local" in status.detail
    shown = repr(root) + repr(vars(root)) + repr(status)
    (key,) = read(key_file).keys
    assert key.hex() not in shown
    assert repr(key) not in repr(read(key_file))


def record() -> TenantRecord:
    kek = KekVersion("k/1", "w", 1, KekState.CURRENT)
    return TenantRecord(TENANT, Tier.STANDARD, TenantState.ACTIVE, 1.0, (kek,), SHARED)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", '{"version": "1"}', '{"version": 1}'])
async def test_a_damaged_record_is_unavailable_and_not_overwritten(
    tmp_path: Path, content: str
) -> None:
    store = FolderKeyStore(tmp_path)
    path = tmp_path / f"{TENANT}.json"
    path.write_text(content)
    with pytest.raises(Unavailable):
        await store.read(TENANT)
    with pytest.raises(Unavailable):
        await store.write(record(), 0)
    assert path.read_text() == content


async def test_another_tenants_record_is_not_believed(tmp_path: Path) -> None:
    store = FolderKeyStore(tmp_path)
    await store.write(record(), 0)
    (tmp_path / f"{TENANT}.json").rename(tmp_path / f"{'b' * 32}.json")
    with pytest.raises(Unavailable):
        await store.read("b" * 32)


async def test_a_record_holds_ids_and_wrapped_keys_only(tmp_path: Path) -> None:
    await FolderKeyStore(tmp_path).write(record(), 0)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [".lock", f"{TENANT}.json"]  # no temporary file stays
    document = json.loads((tmp_path / f"{TENANT}.json").read_text())
    assert set(document) == {*to_document(record()), "version"}


async def test_a_folder_that_is_gone_is_not_healthy(tmp_path: Path) -> None:
    assert not (await FolderKeyStore(tmp_path / "missing").status()).healthy


def test_a_secret_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, content = tmp_path / "s", secrets.token_bytes(10)
    write_durably(path, content, replace=False)
    with pytest.raises(FileExistsError):
        write_durably(path, b"other", replace=False)
    assert read_secret(path) == content
    write_durably(path, b"other", replace=True)
    assert read_secret(path) == b"other"
    assert [found.name for found in tmp_path.iterdir()] == ["s"]


async def test_a_root_key_file_never_becomes_one_that_cannot_be_read(key_file: Path) -> None:
    full = Generations(1, (bytes(32),) * 1_300)
    key_file.unlink()
    ensure_root_key(key_file, full)
    root = LocalRoot(key_file)
    wrapped = await root.wrap(TENANT, SHARED, bytes(32))
    with contextlib.suppress(Unavailable):
        for _ in range(200):
            await root.rotate("", SHARED)
    with pytest.raises(Unavailable):
        await root.rotate("", SHARED)
    assert await root.unwrap(TENANT, SHARED, wrapped) == bytes(32)


async def test_a_record_that_is_too_large_to_be_read_is_not_written(tmp_path: Path) -> None:
    store = FolderKeyStore(tmp_path / "records")
    await store.prepare()
    record = TenantRecord(TENANT, Tier.BUSINESS, TenantState.ACTIVE, 1.0, (), OWN)
    assert await store.write(record, 0) == 1
    left = tuple(RootRef(Custody.OWN, f"{number:08x}") for number in range(20_000))
    with pytest.raises(Unavailable):
        await store.write(dataclasses.replace(record, revision=2, left=left), 1)
    assert (await store.read(TENANT)).version == 1
