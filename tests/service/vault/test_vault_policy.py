"""Least privilege, tried on a real Vault: what the key service may not do, it cannot."""

import asyncio
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest

from keyservice.records import OWN, TenantRecord, TenantState, Tier
from keyservice.vault import setup as setup_vault
from keyservice.vault.login import AppRoleLogin, Refused
from keyservice.vault.root import KEY_TYPE, VaultRoot
from keyservice.vault.session import VaultSession
from keyservice.vault.setup import SetupFailed, VaultSetup
from keyservice.vault.store import VaultKeyStore
from tests.servers import binary
from tests.servers.prepared import PreparedVault
from tests.servers.vault import Vault

TENANT = "0123456789abcdef" * 2
KEY = f"tenant-{TENANT}"
MAKE = {"type": KEY_TYPE, "derived": True}
BRING = MAKE | {"ciphertext": "x", "allow_rotation": False}

FORBIDDEN: list[tuple[str, str, dict[str, Any] | None]] = [
    *(("get", f"T/export/{kind}/{KEY}", None) for kind in ("encryption-key", "hmac-key")),
    ("get", "T/export/encryption-key/standard", None),
    ("get", f"T/backup/{KEY}", None),
    ("post", "T/restore/copy", {"backup": "x"}),
    ("get", f"T/byok-export/standard/{KEY}", None),
    ("delete", "T/keys/standard", None),
    ("post", "T/keys/standard", MAKE),
    ("post", "T/keys/standard/config", {"deletion_allowed": True}),
    ("post", "T/keys/standard/config", {"min_decryption_version": 1, "deletion_allowed": True}),
    ("post", "T/keys/standard/config", {"exportable": True}),
    ("post", f"T/keys/{KEY}/config", {"deletion_allowed": False}),
    ("post", f"T/keys/{KEY}/config", {"allow_plaintext_backup": True}),
    ("post", f"T/keys/{KEY}/config", {"min_encryption_version": 1}),
    ("post", f"T/keys/{KEY}/config", {"exportable": True}),
    ("post", f"T/keys/{KEY}/trim", {"min_available_version": 1}),
    ("post", "T/keys/brought/import", {"ciphertext": "x"}),
    ("post", "T/keys/brought/import", BRING | {"derived": False}),
    ("post", "T/keys/brought/import", BRING | {"type": "rsa-4096"}),
    ("post", "T/keys/brought/import", BRING | {"exportable": True}),
    ("post", "T/keys/brought/import", BRING | {"allow_plaintext_backup": True}),
    ("post", "T/keys/brought/import", BRING | {"public_key": "x"}),
    ("post", f"T/keys/{KEY}/import_version", {"ciphertext": "x", "version": 1}),
    ("post", "T/keys/mine", MAKE | {"exportable": True}),
    ("post", "T/keys/mine", MAKE | {"allow_plaintext_backup": True}),
    ("post", "T/keys/mine", MAKE | {"derived": False}),
    ("post", "T/keys/mine", MAKE | {"type": "rsa-4096"}),
    ("post", "T/encrypt/mine", {"plaintext": "", "context": ""}),
    ("post", "T/datakey/plaintext/standard", {"context": "AAAA"}),
    ("list", "T/keys", None),
    ("delete", f"K/data/tenants/{TENANT}", None),
    ("post", f"K/delete/tenants/{TENANT}", {"versions": [1]}),
    ("post", f"K/undelete/tenants/{TENANT}", {"versions": [1]}),
    ("delete", f"K/metadata/tenants/{TENANT}", None),
    ("post", f"K/metadata/tenants/{TENANT}", {"max_versions": 1}),
    ("post", "K/config", {"cas_required": False}),
    ("list", "K/metadata", None),
    ("post", "K/data/elsewhere", {"data": {}}),
    ("post", f"K/data/journal/{TENANT}/0000000001", {"data": {}, "options": {"cas": 1}}),
    ("delete", f"K/data/journal/{TENANT}/0000000001", None),
    ("post", f"K/delete/journal/{TENANT}/0000000001", {"versions": [1]}),
    ("post", f"K/destroy/journal/{TENANT}/0000000001", {"versions": [1]}),
    ("delete", f"K/metadata/journal/{TENANT}/0000000001", None),
    ("post", f"K/metadata/journal/{TENANT}/0000000001", {"max_versions": 1}),
    ("delete", "sys/mounts/T", None),
    ("post", "sys/mounts/other", {"type": "kv"}),
    ("post", "sys/seal", {}),
    ("get", "sys/policies/acl/root", None),
    ("post", "auth/token/create", {}),
    ("post", "cubbyhole/a", {"b": "c"}),
]


@pytest.fixture
async def kept(
    prepared: PreparedVault, session: VaultSession, root: VaultRoot, store: VaultKeyStore
) -> str:
    """Give a business tenant's wrapped KEK, its key and record being there to be attacked."""
    await root.create(TENANT, OWN)
    record = TenantRecord(TENANT, Tier.BUSINESS, TenantState.ACTIVE, 60.0, (), OWN)
    await store.write(record, 0)
    await prepared.journal(session).add(TENANT, 1, "entry")
    return await root.wrap(TENANT, OWN, b"k" * 32)


async def test_the_policy_can_neither_export_nor_delete_a_record(
    prepared: PreparedVault,
    session: VaultSession,
    root: VaultRoot,
    store: VaultKeyStore,
    kept: str,
) -> None:
    mounts = {"T": prepared.setup.transit_mount, "K": prepared.setup.kv_mount}
    allowed = []
    for method, path, body in FORBIDDEN:
        real = "/".join(mounts.get(part, part) for part in path.split("/"))
        try:
            await session.call(method, real, body)
        except Refused:
            continue
        allowed.append((method, path))
    assert not allowed
    assert await root.unwrap(TENANT, OWN, kept) == b"k" * 32
    assert (await store.read(TENANT)).version == 1
    assert await prepared.journal(session).read(TENANT, 1) == "entry"


async def test_keys_of_the_service_are_neither_exportable_nor_deletable(
    prepared: PreparedVault, kept: str
) -> None:
    assert kept

    def look(name: str) -> dict[str, Any]:
        with prepared.server.client() as client:
            answer = client.read(f"{prepared.setup.transit_mount}/keys/{name}")
            found: dict[str, Any] = answer["data"]
            return found

    for name in ("standard", KEY):
        key = await asyncio.to_thread(look, name)
        assert key["derived"]
        assert not key["exportable"]
        assert not key["allow_plaintext_backup"]
        assert not key["deletion_allowed"]


async def test_even_an_administrator_cannot_export_or_back_up(
    prepared: PreparedVault, kept: str
) -> None:
    assert kept
    mount = prepared.setup.transit_mount

    def ask(method: str, path: str) -> int:
        with setup_vault.administrator(prepared.server.address, prepared.server.root_token) as send:
            return send(method, f"{mount}/{path}")[0]

    refused = [
        await asyncio.to_thread(ask, "get", f"export/encryption-key/{KEY}"),
        await asyncio.to_thread(ask, "get", f"backup/{KEY}"),
        await asyncio.to_thread(ask, "delete", f"keys/{KEY}"),
    ]
    assert all(status in {400, 500} for status in refused)


def test_setup_may_be_repeated(prepared: PreparedVault) -> None:
    server = prepared.server
    with setup_vault.administrator(server.address, server.root_token) as send:
        setup_vault.apply(prepared.setup, send)
        again = setup_vault.draw_credentials(prepared.setup, send)
    assert again.role_id == prepared.login.role_id_file.read_text().strip()
    assert again.secret_id not in repr(again)


def test_setup_refuses_an_exportable_key_under_its_name(vault: Vault) -> None:
    tag = secrets.token_hex(4)
    setup = VaultSetup(transit_mount=f"t-{tag}", kv_mount=f"k-{tag}", approle_mount=f"a-{tag}")
    with vault.client() as client:
        client.sys.enable_secrets_engine("transit", path=setup.transit_mount)
        client.write_data(f"{setup.transit_mount}/keys/standard", data=MAKE | {"exportable": True})
    with (
        setup_vault.administrator(vault.address, vault.root_token) as send,
        pytest.raises(SetupFailed, match="neither exported"),
    ):
        setup_vault.apply(setup, send)


def test_setup_refuses_a_mount_of_another_kind(vault: Vault) -> None:
    tag = secrets.token_hex(4)
    setup = VaultSetup(transit_mount=f"t-{tag}", kv_mount=f"k-{tag}", approle_mount=f"a-{tag}")
    with vault.client() as client:
        client.sys.enable_secrets_engine("kv", path=setup.kv_mount, options={"version": "1"})
    with (
        setup_vault.administrator(vault.address, vault.root_token) as send,
        pytest.raises(SetupFailed, match="KV version 2"),
    ):
        setup_vault.apply(setup, send)


def test_setup_without_rights_says_where_it_stopped(vault: Vault) -> None:
    with (
        setup_vault.administrator(vault.address, "nobody") as send,
        pytest.raises(SetupFailed, match="403 to sys/mounts") as failed,
    ):
        setup_vault.apply(VaultSetup(), send)
    assert "nobody" not in str(failed.value)


async def test_the_printed_script_sets_a_vault_up(vault: Vault, tmp_path: Path) -> None:
    tag = secrets.token_hex(4)
    setup = VaultSetup(transit_mount=f"t-{tag}", kv_mount=f"k-{tag}", approle_mount=f"a-{tag}")
    program = binary.find(binary.VAULT)
    assert program is not None
    (tmp_path / "vault").symlink_to(program)
    done = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", setup_vault.script(setup)),
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "VAULT_ADDR": vault.address,
            "VAULT_TOKEN": vault.root_token,
            "BAO_ADDR": vault.address,
            "BAO_TOKEN": vault.root_token,
        },
        stdout=subprocess.PIPE,
    )
    output, _ = await done.communicate()
    assert done.returncode == 0
    drawn = dict(line.split("=") for line in output.decode().splitlines() if "_id=" in line)
    login = AppRoleLogin(tmp_path / "role", tmp_path / "secret", setup.approle_mount)
    login.role_id_file.write_text(drawn["role_id"])
    login.secret_id_file.write_text(drawn["secret_id"])
    session = VaultSession(vault.address, login)
    try:
        assert (await VaultRoot(session, mount=setup.transit_mount).status()).healthy
        assert (await VaultKeyStore(session, mount=setup.kv_mount).status()).healthy
    finally:
        await session.close()
