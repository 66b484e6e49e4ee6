"""Root keys that tenants bring, into files of a single machine (`ports.KeyImport`).

The private half of the wrapping key lies beside the root key, 0600, made when it is first asked for.
Unlike in Vault, the key is in this process for a moment, as every local root key is.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from keyservice.errors import UnknownTenant, WrongState
from keyservice.files import os_unavailable, read_secret, write_durably
from keyservice.local import key_file
from keyservice.local.key_file import Generations
from keyservice.local.root import own_file
from keyservice.parcel import unpack
from keyservice.records import RootRef

MODULUS = 4096


class LocalImport:
    """Beside the root key file of a `LocalRoot`."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._file = path.with_name(path.name + ".import")

    async def wrapping_key(self) -> str:
        """See `KeyImport.wrapping_key`."""
        public = (await self._private()).public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    async def bring(self, tenant: str, root: RootRef, parcel: bytes) -> None:
        """See `KeyImport.bring`."""
        path = own_file(self._root, tenant, root)
        key = unpack(await self._private(), parcel)
        with os_unavailable("root key file cannot be written"):
            first = Generations(1, (key,), root.imported)
            await asyncio.to_thread(key_file.ensure, path, first)

    async def bring_version(self, tenant: str, root: RootRef, parcel: bytes) -> int:
        """See `KeyImport.bring_version`."""
        path = own_file(self._root, tenant, root)
        with os_unavailable("root key file cannot be written"):
            try:
                found = await asyncio.to_thread(key_file.read, path)
                if not found.supplied:
                    raise WrongState("the versions of this root are made here: rotate it instead")
                key = unpack(await self._private(), parcel)
                new = await asyncio.to_thread(key_file.change, path, lambda old: old.extended(key))
            except FileNotFoundError:
                raise UnknownTenant("tenant has no root key: create it first") from None
        return new.latest

    async def _private(self) -> rsa.RSAPrivateKey:
        with os_unavailable("wrapping key file cannot be read or written"):
            return await asyncio.to_thread(_ensured, self._file)


def _ensured(path: Path) -> rsa.RSAPrivateKey:
    """Return the key of the file, which is made unless there is one."""
    if not path.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=MODULUS)
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with contextlib.suppress(FileExistsError):
            write_durably(path, pem, replace=False)
    # The check takes half a second, and is for keys that somebody else made.
    found = serialization.load_pem_private_key(
        read_secret(path), password=None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(found, rsa.RSAPrivateKey):
        raise TypeError("wrapping key file holds no RSA key")
    return found
