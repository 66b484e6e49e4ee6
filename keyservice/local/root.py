"""The root of a single machine: 0600 key files.

For development, tests and small installations; whoever reads the disk has the keys, which is why
the service says loudly that it runs like this. Same port and same contract tests as Vault. Several
processes of one machine may share the files.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyservice.errors import (
    CannotUnwrap,
    KeyServiceError,
    Unavailable,
    UnknownTenant,
    WrongState,
)
from keyservice.files import os_unavailable
from keyservice.local import key_file
from keyservice.local.key_file import KEY_SIZE, Generations
from keyservice.ports import RootKind, RootStatus, RootVersions
from keyservice.records import WRAPPED, Custody, RootRef, demand_tenant


class LocalRoot:
    """A root key in a file, and one more file for each business tenant, in the folder beside it."""

    def __init__(self, path: Path) -> None:
        self._file = path

    @property
    def kind(self) -> RootKind:
        """Always `local`."""
        return "local"

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`."""
        if root.custody is Custody.OWN:
            with os_unavailable("root key file cannot be written"):
                await asyncio.to_thread(key_file.ensure, self._path(tenant, root))

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        demand_tenant(tenant)
        found = await self._read(tenant, root)
        return _seal(found, tenant, root, plaintext)

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        demand_tenant(tenant)
        return _open(await self._read(tenant, root), tenant, root, wrapped)

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        demand_tenant(tenant)
        found = await self._read(tenant, root)
        return _seal(found, tenant, root, _open(found, tenant, root, wrapped))

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """See `Root.rotate`."""
        if (await self._read(tenant, root)).supplied:
            raise WrongState("the tenant supplies the versions of this root: import the next one")
        return (await self._change(tenant, root, Generations.rotated)).latest

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """See `Root.versions`."""
        found = await self._read(tenant, root)
        return RootVersions(found.latest, found.minimum, found.created)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """See `Root.retire`; the file keeps the old versions, and none of them is used."""
        if minimum > (await self._read(tenant, root)).latest:
            raise WrongState("root key has no such version")
        await self._change(tenant, root, lambda found: found.retired(minimum))

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """See `Root.destroy`."""
        if root.custody is not Custody.OWN:
            raise WrongState("only a root key of the tenant's own can be destroyed")
        with os_unavailable("root key file cannot be removed"):
            await asyncio.to_thread(key_file.remove, self._path(tenant, root))

    async def status(self) -> RootStatus:
        """See `Root.status`."""
        try:
            await asyncio.to_thread(key_file.read, self._file)
        except (OSError, ValueError):
            return RootStatus(healthy=False, detail="local root key file cannot be read")
        return RootStatus(
            healthy=True, detail="local root key file: for development or a single machine"
        )

    async def close(self) -> None:
        """See `Root.close`."""

    def _path(self, tenant: str, root: RootRef) -> Path:
        if root.custody is Custody.SHARED:
            return self._file
        demand_tenant(tenant)
        if root.custody is Custody.HELD:
            raise Unavailable("no vault of this tenant is configured")
        return own_file(self._file, tenant, root)

    async def _read(self, tenant: str, root: RootRef) -> Generations:
        path = self._path(tenant, root)
        with os_unavailable("root key file cannot be read"):
            try:
                return await asyncio.to_thread(key_file.read, path)
            except FileNotFoundError:
                raise _missing(root) from None

    async def _change(
        self, tenant: str, root: RootRef, change: Callable[[Generations], Generations]
    ) -> Generations:
        path = self._path(tenant, root)
        with os_unavailable("root key file cannot be written"):
            try:
                return await asyncio.to_thread(key_file.change, path, change)
            except FileNotFoundError:
                raise _missing(root) from None


def own_file(path: Path, tenant: str, root: RootRef) -> Path:
    """Return where the tenant's own root lies, beside the file of the shared one."""
    demand_tenant(tenant)
    name = "-".join([tenant, *([root.name] if root.name else [])])
    return path.with_name(path.name + ".tenants") / f"{name}.key"


def _missing(root: RootRef) -> KeyServiceError:
    if root.custody is Custody.OWN:
        return UnknownTenant("tenant has no root key: create it first")
    return Unavailable("root key file cannot be read")


def _seal(found: Generations, tenant: str, root: RootRef, plaintext: bytes) -> str:
    encryptor = Cobblestone256Encryptor(*_derived(found.keys[-1], tenant, root))
    message = encryptor.update(plaintext) + encryptor.finalize()
    return f"local:v{found.latest}:{base64.b64encode(message).decode('ascii')}"


def _open(found: Generations, tenant: str, root: RootRef, wrapped: str) -> bytes:
    head = WRAPPED.match(wrapped)
    if head is None or not wrapped.startswith("local:"):
        raise CannotUnwrap
    version = int(head[1])
    if not found.minimum <= version <= found.latest:
        raise CannotUnwrap
    try:
        message = base64.b64decode(wrapped[head.end() :], validate=True)
        decryptor = Cobblestone256Decryptor(*_derived(found.keys[version - 1], tenant, root))
        return decryptor.update(message) + decryptor.finalize()
    except (InvalidTag, ValueError, binascii.Error):
        raise CannotUnwrap from None


def _derived(key: bytes, tenant: str, root: RootRef) -> tuple[bytes, bytes]:
    """Return the tenant's key, and what it is bound to; the parts hold no separator."""
    context = f"sealgate local root|{root.custody.value}|{root.name}|{tenant}".encode()
    derivation = HKDF(algorithm=hashes.SHA512(), length=KEY_SIZE, salt=None, info=context)
    return derivation.derive(key), context
