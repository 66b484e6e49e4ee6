"""The root and the key store of production: Vault or OpenBao, transit and KV version 2.

Root keys never leave transit: KEKs travel there to be wrapped. All transit keys are derived, with
the tenant id as the context, so that what was wrapped for one tenant opens for no other, and still
Vault can rewrap it (with `associated_data` it cannot). `setup_vault` makes the mounts, the shared key and the
policy that these adapters need; without it they answer Unavailable. A standby that serves old reads
(performance standbys) must not be put before the key store.
"""

from __future__ import annotations

import base64
import binascii

from keyservice.errors import CannotUnwrap, Conflict, Unavailable, UnknownTenant
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
from keyservice.vault_login import Refused
from keyservice.vault_session import Answer, VaultSession

TRANSIT_MOUNT = "sealgate-transit"
KV_MOUNT = "sealgate-kv"
STANDARD_KEY = "standard"
KEY_TYPE = "aes256-gcm96"
KEK_SIZE = 32
OK = 200
NO_CONTENT = 204
NOT_FOUND = 404
STATUS_DEADLINE = 3.0


class VaultRoot:
    """Transit keys: one shared by all standard tenants, one for each business tenant."""

    def __init__(
        self,
        session: VaultSession,
        *,
        mount: str = TRANSIT_MOUNT,
        standard_key: str = STANDARD_KEY,
    ) -> None:
        self._session = session
        self._mount = mount
        self._standard_key = standard_key

    @property
    def kind(self) -> RootKind:
        """Always `vault`."""
        return "vault"

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`; the shared key is made by `setup_vault`."""
        name = self._name(tenant, root)
        if root.custody is Custody.OWN:
            # Vault leaves an existing key as it is, whatever is asked for.
            body = {"type": KEY_TYPE, "derived": True}
            answer = await self._session.call("post", f"{self._mount}/keys/{name}", body)
            if answer.status not in {OK, NO_CONTENT}:
                raise _unexpected(answer, "transit")

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        text = base64.b64encode(plaintext).decode("ascii")
        answer = await self._transit("encrypt", tenant, root, {"plaintext": text})
        return _text(answer, "ciphertext")

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        answer = await self._transit("decrypt", tenant, root, {"ciphertext": wrapped})
        try:
            kek = base64.b64decode(_text(answer, "plaintext"), validate=True)
        except binascii.Error:
            raise Unavailable("vault transit gave an answer that makes no sense") from None
        if len(kek) != KEK_SIZE:
            raise CannotUnwrap
        return kek

    async def status(self) -> RootStatus:
        """See `Root.status`: asks for the shared key, which needs all that a tenant needs."""
        try:
            found = await self._exists(self._standard_key, deadline=STATUS_DEADLINE)
        except Unavailable as error:
            return RootStatus(healthy=False, detail=str(error))
        detail = "vault transit" if found else "vault has no shared root key: run setup-vault"
        return RootStatus(healthy=found, detail=detail)

    async def close(self) -> None:
        """See `Root.close`; ends the session, which the key store may share."""
        await self._session.close()

    async def _transit(
        self, operation: str, tenant: str, root: RootRef, body: dict[str, str]
    ) -> Answer:
        name = self._name(tenant, root)
        path = f"{self._mount}/{operation}/{name}"
        context = base64.b64encode(tenant.encode()).decode("ascii")
        try:
            answer = await self._session.call("post", path, body | {"context": context})
        except Refused:
            # To encrypt with a missing key is to create it, which our policy forbids.
            await self._demand(name, root)
            raise
        if answer.status == OK:
            return answer
        await self._demand(name, root)
        if operation == "encrypt":
            raise _unexpected(answer, "transit")
        raise CannotUnwrap

    def _name(self, tenant: str, root: RootRef) -> str:
        _demand_tenant(tenant)
        if root.custody is Custody.SHARED:
            return self._standard_key
        if root.custody is Custody.HELD:
            raise Unavailable("no vault of this tenant is configured")
        return "-".join(["tenant", tenant, *([root.name] if root.name else [])])

    async def _demand(self, name: str, root: RootRef) -> None:
        """Raise what a missing key means: a tenant never created, or a Vault never set up."""
        if await self._exists(name):
            return
        if root.custody is Custody.OWN:
            raise UnknownTenant("tenant has no root key: create it first")
        raise Unavailable("vault has no shared root key: run setup-vault")

    async def _exists(self, name: str, *, deadline: float | None = None) -> bool:
        answer = await self._session.call("get", f"{self._mount}/keys/{name}", deadline=deadline)
        if answer.status not in {OK, NOT_FOUND}:
            raise _unexpected(answer, "transit")
        return answer.status == OK


class VaultKeyStore:
    """One KV secret a tenant; its version is the record's."""

    def __init__(self, session: VaultSession, *, mount: str = KV_MOUNT) -> None:
        self._session = session
        self._mount = mount

    async def read(self, tenant: str) -> Versioned:
        """See `KeyStore.read`."""
        answer = await self._session.call("get", self._path(tenant))
        if answer.status == NOT_FOUND:
            if answer.data.get("metadata"):
                raise Unavailable("tenant record was deleted in vault: undelete it there")
            if not answer.errors:  # which a missing mount has
                raise UnknownTenant("tenant has not been created")
        if answer.status != OK:
            raise _unexpected(answer, "kv")
        try:
            record = from_document(answer.data["data"])
            version = int(answer.data["metadata"]["version"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable("tenant record in vault is damaged") from None
        if record.tenant != tenant:
            raise Unavailable("tenant record in vault is another tenant's")
        return Versioned(record, version)

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """See `KeyStore.write`."""
        body = {"options": {"cas": expected_version}, "data": to_document(record)}
        # Twice would be a conflict with ourselves, where once was a success.
        answer = await self._session.call("post", self._path(record.tenant), body, repeatable=False)
        if answer.status == OK:
            try:
                return int(answer.data["version"])
            except (KeyError, TypeError, ValueError):
                raise _unexpected(answer, "kv") from None
        if "check-and-set" in answer.errors:
            raise Conflict("tenant record is at another version")
        raise _unexpected(answer, "kv")

    async def status(self) -> RootStatus:
        """See `KeyStore.status`: asks for a record that nobody has."""
        try:
            nobody = self._path("0" * 32)
            answer = await self._session.call("get", nobody, deadline=STATUS_DEADLINE)
        except Unavailable as error:
            return RootStatus(healthy=False, detail=str(error))
        if answer.errors:
            return RootStatus(healthy=False, detail=str(_unexpected(answer, "kv")))
        return RootStatus(healthy=True, detail="vault kv")

    async def close(self) -> None:
        """See `KeyStore.close`; ends the session, which the root may share."""
        await self._session.close()

    def _path(self, tenant: str) -> str:
        _demand_tenant(tenant)
        return f"{self._mount}/data/tenants/{tenant}"


def _demand_tenant(tenant: str) -> None:
    """Refuse what could lead to another path."""
    if not is_tenant(tenant):
        raise UnknownTenant("tenant id must be 32 lower-case hex characters")


def _text(answer: Answer, name: str) -> str:
    value = answer.data.get(name)
    if not isinstance(value, str):
        raise Unavailable("vault transit gave an answer that makes no sense")
    return value


def _unexpected(answer: Answer, engine: str) -> Unavailable:
    return Unavailable(f"vault {engine} answered {answer.status}: was setup-vault run?")
