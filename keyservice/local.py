"""The root and the key store of a single machine: 0600 key files and a folder of records.

For development, tests and small installations; whoever reads the disk has the keys, which is why
the service says loudly that it runs like this. Same ports and same contract tests as Vault. Several
processes of one machine may share the folders: a lock file orders their writes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyservice.errors import CannotUnwrap, Conflict, Unavailable, UnknownTenant
from keyservice.files import read_secret, write_durably
from keyservice.ports import RootKind, RootStatus
from keyservice.records import (
    Custody,
    RootRef,
    TenantRecord,
    Versioned,
    from_document,
    is_tenant,
    to_document,
)

KEY_SIZE = 32
PREFIX = "local:v1:"
MAX_RECORD = 1 << 20


def ensure_root_key(path: Path) -> None:
    """Create the root key file, 0600, unless there is one; safe for two processes at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_durably(path, secrets.token_bytes(KEY_SIZE), replace=False)


class LocalRoot:
    """A root key in a file, and one more file for each business tenant, in the folder beside it."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._folder = key_file.with_name(key_file.name + ".tenants")

    @property
    def kind(self) -> RootKind:
        """Always `local`."""
        return "local"

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`."""
        if root.custody is Custody.OWN:
            with _unavailable("root key file cannot be written"):
                await asyncio.to_thread(ensure_root_key, self._path(tenant, root))

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        key = await self._key(tenant, root)
        encryptor = Cobblestone256Encryptor(key, _context(tenant, root))
        message = encryptor.update(plaintext) + encryptor.finalize()
        return PREFIX + base64.b64encode(message).decode("ascii")

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        key = await self._key(tenant, root)
        try:
            if not wrapped.startswith(PREFIX):
                raise CannotUnwrap
            message = base64.b64decode(wrapped.removeprefix(PREFIX), validate=True)
            decryptor = Cobblestone256Decryptor(key, _context(tenant, root))
            return decryptor.update(message) + decryptor.finalize()
        except (InvalidTag, ValueError, binascii.Error):
            raise CannotUnwrap from None

    async def status(self) -> RootStatus:
        """See `Root.status`."""
        try:
            await asyncio.to_thread(_read_key, self._key_file)
        except (OSError, ValueError):
            return RootStatus(healthy=False, detail="local root key file cannot be read")
        return RootStatus(
            healthy=True, detail="local root key file: for development or a single machine"
        )

    async def close(self) -> None:
        """See `Root.close`."""

    def _path(self, tenant: str, root: RootRef) -> Path:
        if not is_tenant(tenant):
            raise UnknownTenant("tenant id must be 32 lower-case hex characters")
        if root.custody is Custody.SHARED:
            return self._key_file
        if root.custody is Custody.HELD:
            raise Unavailable("no vault of this tenant is configured")
        return self._folder / f"{'-'.join([tenant, *([root.name] if root.name else [])])}.key"

    async def _key(self, tenant: str, root: RootRef) -> bytes:
        path = self._path(tenant, root)
        with _unavailable("root key file cannot be read"):
            try:
                key = await asyncio.to_thread(_read_key, path)
            except FileNotFoundError:
                if root.custody is Custody.OWN:
                    raise UnknownTenant("tenant has no root key: create it first") from None
                raise
        derivation = HKDF(
            algorithm=hashes.SHA512(), length=KEY_SIZE, salt=None, info=_context(tenant, root)
        )
        return derivation.derive(key)


class FolderKeyStore:
    """One JSON file a tenant, replaced atomically under a lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def prepare(self) -> None:
        """Create the folder unless there is one."""
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)

    async def read(self, tenant: str) -> Versioned:
        """See `KeyStore.read`."""
        with _unavailable("tenant record cannot be read"):
            return await asyncio.to_thread(self._read, tenant)

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """See `KeyStore.write`."""
        with _unavailable("tenant record cannot be written"):
            return await asyncio.to_thread(self._write, record, expected_version)

    async def status(self) -> RootStatus:
        """See `KeyStore.status`."""
        usable = await asyncio.to_thread(os.access, self._folder, os.R_OK | os.W_OK | os.X_OK)
        detail = "folder of records" if usable else "folder of records cannot be read or written"
        return RootStatus(healthy=usable, detail=detail)

    async def close(self) -> None:
        """See `KeyStore.close`."""

    def _path(self, tenant: str) -> Path:
        if not is_tenant(tenant):
            raise UnknownTenant("tenant id must be 32 lower-case hex characters")
        return self._folder / f"{tenant}.json"

    def _read(self, tenant: str) -> Versioned:
        try:
            with self._path(tenant).open("rb") as file:
                document = json.loads(file.read(MAX_RECORD))
        except FileNotFoundError:
            raise UnknownTenant("tenant has not been created") from None
        if not (isinstance(document, dict) and isinstance(document.get("version"), int)):
            raise TypeError("tenant record has no version")
        record = from_document(document)
        if record.tenant != tenant:
            raise ValueError("tenant record is another tenant's")
        return Versioned(record, document["version"])

    def _write(self, record: TenantRecord, expected_version: int) -> int:
        with self._locked():
            try:
                held = self._read(record.tenant).version
            except UnknownTenant:
                held = 0
            if held != expected_version:
                raise Conflict("tenant record is at another version")
            document = to_document(record) | {"version": held + 1}
            content = json.dumps(document, indent=1).encode()
            write_durably(self._path(record.tenant), content, replace=True)
            return held + 1

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file unlocks
            yield


def _read_key(path: Path) -> bytes:
    key = read_secret(path)
    if len(key) != KEY_SIZE:
        msg = f"root key file must hold exactly {KEY_SIZE} bytes"
        raise ValueError(msg)
    return key


def _context(tenant: str, root: RootRef) -> bytes:
    """Bind tenant and root; all of it has a fixed alphabet without the separator."""
    return f"sealgate local root|{root.custody.value}|{root.name}|{tenant}".encode()


@contextlib.contextmanager
def _unavailable(message: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        raise Unavailable(message) from error
