"""The root of production: transit of Vault or OpenBao.

Root keys never leave transit: KEKs travel there to be wrapped. All transit keys are derived, with
the tenant id as the context, so that what was wrapped for one tenant opens for no other, and still
Vault can rewrap it (with `associated_data` it cannot). `setup_vault` makes the mount, the shared key and
the policy that are needed; without them the root is Unavailable.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NoReturn

from keyservice.errors import CannotUnwrap, Unavailable, UnknownTenant, WrongState
from keyservice.ports import RootKind, RootStatus, RootVersions
from keyservice.records import Custody, RootRef, demand_tenant
from keyservice.vault.login import Refused
from keyservice.vault.session import Answer, VaultSession, unexpected

TRANSIT_MOUNT = "sealgate-transit"
STANDARD_KEY = "standard"
KEY_TYPE = "aes256-gcm96"
KEK_SIZE = 32
OK = 200
NO_CONTENT = 204
NOT_FOUND = 404
STATUS_DEADLINE = 3.0
NONSENSE = "vault transit gave an answer that makes no sense"


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
                raise unexpected(answer, "transit")

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
            raise Unavailable(NONSENSE) from None
        if len(kek) != KEK_SIZE:
            raise CannotUnwrap
        return kek

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        answer = await self._transit("rewrap", tenant, root, {"ciphertext": wrapped})
        return _text(answer, "ciphertext")

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """See `Root.rotate`."""
        name = self._name(tenant, root)
        # Asked first: to rotate a missing or a supplied key is an error that looks like a failure.
        found = await self._key(name, root)
        if supplied(found):
            raise WrongState("the tenant supplies the versions of this root: import the next one")
        path = f"{self._mount}/keys/{name}/rotate"
        answer = await self._session.call("post", path, {}, repeatable=False)
        if answer.status not in {OK, NO_CONTENT}:
            raise unexpected(answer, "transit")
        return (await self._look(name, root)).latest

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """See `Root.versions`."""
        return await self._look(self._name(tenant, root), root)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """See `Root.retire`; Vault keeps the old versions, and lets none of them decrypt."""
        name = self._name(tenant, root)
        found = await self._look(name, root)
        if minimum > found.latest:
            raise WrongState("root key has no such version")
        if minimum > found.minimum:
            await self._configure(name, {"min_decryption_version": minimum})

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """See `Root.destroy`."""
        name = self._name(tenant, root)
        if root.custody is not Custody.OWN:
            raise WrongState("only a root key of the tenant's own can be destroyed")
        if not await self._exists(name):
            return
        try:
            await self._configure(name, {"deletion_allowed": True})
            answer = await self._session.call("delete", f"{self._mount}/keys/{name}")
            if answer.status not in {OK, NO_CONTENT}:
                raise unexpected(answer, "transit")
        except Unavailable:
            if await self._exists(name):  # else somebody was faster
                raise

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
        demand_tenant(tenant)
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
            raise unexpected(answer, "transit")
        raise CannotUnwrap

    def _name(self, tenant: str, root: RootRef) -> str:
        if root.custody is Custody.SHARED:
            return self._standard_key
        demand_tenant(tenant)
        if root.custody is Custody.HELD:
            raise Unavailable("no vault of this tenant is configured")
        return own_key(tenant, root)

    async def _demand(self, name: str, root: RootRef) -> None:
        """Raise what a missing key means: a tenant never created, or a Vault never set up."""
        if not await self._exists(name):
            self._missing(root)

    def _missing(self, root: RootRef) -> NoReturn:
        if root.custody is Custody.OWN:
            raise UnknownTenant("tenant has no root key: create it first")
        raise Unavailable("vault has no shared root key: run setup-vault")

    async def _look(self, name: str, root: RootRef) -> RootVersions:
        found = await self._key(name, root)
        try:
            latest = int(found["latest_version"])
            made = int(found["keys"][str(latest)])  # in seconds
            return RootVersions(latest, int(found["min_decryption_version"]), made * 1_000_000)
        except (KeyError, TypeError, ValueError):
            raise Unavailable(NONSENSE) from None

    async def _key(self, name: str, root: RootRef) -> Mapping[str, Any]:
        answer = await self._session.call("get", f"{self._mount}/keys/{name}")
        if answer.status == NOT_FOUND:
            self._missing(root)
        if answer.status != OK:
            raise unexpected(answer, "transit")
        return answer.data

    async def _configure(self, name: str, body: Mapping[str, int | bool]) -> None:
        answer = await self._session.call("post", f"{self._mount}/keys/{name}/config", body)
        if answer.status not in {OK, NO_CONTENT}:
            raise unexpected(answer, "transit")

    async def _exists(self, name: str, *, deadline: float | None = None) -> bool:
        answer = await self._session.call("get", f"{self._mount}/keys/{name}", deadline=deadline)
        if answer.status not in {OK, NOT_FOUND}:
            raise unexpected(answer, "transit")
        return answer.status == OK


def own_key(tenant: str, root: RootRef) -> str:
    """Return what the transit key of a tenant's own root is called."""
    demand_tenant(tenant)
    return "-".join(["tenant", tenant, *([root.name] if root.name else [])])


def supplied(key: Mapping[str, Any]) -> bool:
    """Say whether Vault describes a key whose versions are all imported."""
    return bool(key.get("imported_key")) and not key.get("imported_key_allow_rotation")


def _text(answer: Answer, name: str) -> str:
    value = answer.data.get(name)
    if not isinstance(value, str):
        raise Unavailable(NONSENSE)
    return value
