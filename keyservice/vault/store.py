"""The key store of production: KV version 2 of Vault or OpenBao, with check-and-set.

A standby that serves old reads (performance standbys) must not be put before it. `setup_vault` makes
the mount and the policy that it needs; without them it answers Unavailable.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyservice.errors import Conflict, Unavailable, UnknownTenant
from keyservice.ports import RootStatus
from keyservice.records import (
    TenantRecord,
    Versioned,
    demand_tenant,
    from_document,
    is_tenant,
    to_document,
)
from keyservice.vault.session import VaultSession, unexpected

KV_MOUNT = "sealgate-kv"
OK = 200
NO_CONTENT = 204
NOT_FOUND = 404
STATUS_DEADLINE = 3.0


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
            raise unexpected(answer, "kv")
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
                raise unexpected(answer, "kv") from None
        if "check-and-set" in answer.errors:
            raise Conflict("tenant record is at another version")
        raise unexpected(answer, "kv")

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        """See `KeyStore.past`."""
        answer = await self._session.call("get", f"{self._path(tenant)}?version={version}")
        if answer.status not in {OK, NOT_FOUND}:
            raise unexpected(answer, "kv")
        try:
            return from_document(answer.data["data"])
        except (KeyError, TypeError, ValueError):
            return None

    async def forget(self, tenant: str, before: int) -> None:
        """See `KeyStore.forget`."""
        answer = await self._session.call("get", self._path(tenant, "metadata"))
        if answer.status == NOT_FOUND and not answer.errors:
            raise UnknownTenant("tenant has not been created")
        if answer.status != OK:
            raise unexpected(answer, "kv")
        try:
            newest = int(answer.data["current_version"])
            old = [
                int(version)
                for version, found in answer.data["versions"].items()
                if int(version) < min(before, newest) and not found["destroyed"]
            ]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise unexpected(answer, "kv") from None
        if old:
            body = {"versions": old}
            answer = await self._session.call("post", self._path(tenant, "destroy"), body)
            if answer.status not in {OK, NO_CONTENT}:
                raise unexpected(answer, "kv")

    async def tenants(self) -> Sequence[str]:
        """See `KeyStore.tenants`."""
        answer = await self._session.call("list", f"{self._mount}/metadata/tenants")
        if answer.status == NOT_FOUND and not answer.errors:
            return []
        keys = answer.data.get("keys")
        if answer.status != OK or not isinstance(keys, list):
            raise unexpected(answer, "kv")
        return sorted(key for key in keys if isinstance(key, str) and is_tenant(key))

    async def status(self) -> RootStatus:
        """See `KeyStore.status`: asks for a record that nobody has."""
        try:
            nobody = self._path("0" * 32)
            answer = await self._session.call("get", nobody, deadline=STATUS_DEADLINE)
        except Unavailable as error:
            return RootStatus(healthy=False, detail=str(error))
        if answer.errors:
            return RootStatus(healthy=False, detail=str(unexpected(answer, "kv")))
        return RootStatus(healthy=True, detail="vault kv")

    async def close(self) -> None:
        """See `KeyStore.close`; ends the session, which the root may share."""
        await self._session.close()

    def _path(self, tenant: str, part: str = "data") -> str:
        demand_tenant(tenant)
        return f"{self._mount}/{part}/tenants/{tenant}"
