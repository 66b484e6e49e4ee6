"""Root keys that tenants bring, into Vault's transit engine (`ports.KeyImport`).

The parcel opens inside Vault: this process passes it on and never sees the key. Every key is derived
and can be neither exported nor backed up, as all of ours; `setup_vault` lets nothing else be asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from keyservice.errors import Invalid, Unavailable, UnknownTenant, WrongState
from keyservice.records import RootRef
from keyservice.vault.root import (
    KEY_TYPE,
    NO_CONTENT,
    NONSENSE,
    NOT_FOUND,
    OK,
    TRANSIT_MOUNT,
    own_key,
    supplied,
)
from keyservice.vault.session import ANSWERS, Answer, VaultSession, unexpected

FAILED = 500
"""Vault's status for whatever is wrong with an import, be it the parcel or its own disk."""

DAMAGED = ("kwp:", "rsa", "too short", "key size", "invalid key", "base64", "decryption error")


class VaultImport:
    """Over the session of the root, on its mount."""

    def __init__(self, session: VaultSession, *, mount: str = TRANSIT_MOUNT) -> None:
        self._session = session
        self._mount = mount

    async def wrapping_key(self) -> str:
        """See `KeyImport.wrapping_key`."""
        answer = await self._session.call("get", f"{self._mount}/wrapping_key")
        if answer.status != OK:
            raise unexpected(answer, "transit")
        key = answer.data.get("public_key")
        if not isinstance(key, str):
            raise Unavailable(NONSENSE)
        return key

    async def bring(self, tenant: str, root: RootRef, parcel: bytes) -> None:
        """See `KeyImport.bring`."""
        name = own_key(tenant, root)
        if await self._key(name) is not None:
            return
        body = _body(parcel) | {
            "type": KEY_TYPE,
            "derived": True,
            "allow_rotation": not root.imported,
        }
        answer = await self._post(f"{self._mount}/keys/{name}/import", body)
        # Of two at once one may be late, and Vault lets the other add the same key as a version.
        if answer.status == FAILED and await self._key(name) is None:
            raise _refusal(answer)

    async def bring_version(self, tenant: str, root: RootRef, parcel: bytes) -> int:
        """See `KeyImport.bring_version`."""
        name = own_key(tenant, root)
        found = await self._key(name)
        if found is None:
            raise UnknownTenant("tenant has no root key: create it first")
        if not supplied(found):
            raise WrongState("the versions of this root are made here: rotate it instead")
        answer = await self._post(f"{self._mount}/keys/{name}/import_version", _body(parcel))
        if answer.status == FAILED:
            raise _refusal(answer)
        found = await self._key(name)
        latest = found.get("latest_version") if found is not None else None
        if not isinstance(latest, int):
            raise Unavailable(NONSENSE)
        return latest

    async def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        answer = await self._session.call(
            "post", path, body, repeatable=False, readable=ANSWERS | {FAILED}
        )
        if answer.status not in {OK, NO_CONTENT, FAILED}:
            raise unexpected(answer, "transit")
        return answer

    async def _key(self, name: str) -> Mapping[str, Any] | None:
        answer = await self._session.call("get", f"{self._mount}/keys/{name}")
        if answer.status == NOT_FOUND:
            return None
        if answer.status != OK:
            raise unexpected(answer, "transit")
        return answer.data


def _body(parcel: bytes) -> dict[str, Any]:
    return {"ciphertext": base64.b64encode(parcel).decode("ascii"), "hash_function": "SHA256"}


def _refusal(answer: Answer) -> Invalid | Unavailable:
    if any(word in answer.errors for word in DAMAGED):
        return Invalid("parcel does not open to a root key: pack it again for this wrapping key")
    return unexpected(answer, "transit")
