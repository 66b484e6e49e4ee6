"""Key journals in KV version 2 of Vault or OpenBao: a secret a line, `journal/TENANT/NUMBER`.

The policy that `setup_vault` makes lets the key service create and read them, and neither write one anew
nor delete one: of a key service that was taken over, what it wrote before stays. Whoever administers
Vault can remove lines: see `journal_entry` on what shows that.
"""

from __future__ import annotations

from keyservice.errors import Conflict, Unavailable
from keyservice.records import demand_tenant
from keyservice.vault.session import ANSWERS, VaultSession, unexpected

KV_MOUNT = "sealgate-kv"
FOLDER = "journal"
OK = 200
FORBIDDEN = 403
NOT_FOUND = 404


class VaultJournal:
    """See the module; over the session of the key store."""

    def __init__(self, session: VaultSession, *, mount: str = KV_MOUNT) -> None:
        self._session = session
        self._mount = mount

    async def head(self, tenant: str) -> int:
        """See `JournalStore.head`."""
        demand_tenant(tenant)
        path = f"{self._mount}/metadata/{FOLDER}/{tenant}"
        answer = await self._session.call("list", path)
        if answer.status == NOT_FOUND and not answer.errors:
            return 0
        names = answer.data.get("keys")
        if answer.status != OK or not isinstance(names, list):
            raise unexpected(answer, "kv")
        return max((int(n) for n in names if isinstance(n, str) and n.isdigit()), default=0)

    async def add(self, tenant: str, sequence: int, text: str) -> None:
        """See `JournalStore.add`."""
        body = {"options": {"cas": 0}, "data": {"entry": text}}
        path = self._path(tenant, sequence)
        # Twice would be a conflict with ourselves, where once was a success.
        answer = await self._session.call(
            "post", path, body, repeatable=False, readable=ANSWERS | {FORBIDDEN}
        )
        if answer.status == FORBIDDEN:
            # We may create and not write anew, so a number that is taken is forbidden, too.
            if await self.read(tenant, sequence) is not None:
                raise Conflict("journal has another entry there")
            answer = await self._session.call("post", path, body, repeatable=False)
        if "check-and-set" in answer.errors:
            raise Conflict("journal has another entry there")
        if answer.status != OK:
            raise unexpected(answer, "kv")

    async def read(self, tenant: str, sequence: int) -> str | None:
        """See `JournalStore.read`."""
        answer = await self._session.call("get", self._path(tenant, sequence))
        if answer.status == NOT_FOUND and answer.data.get("metadata"):
            return ""
        if answer.status == NOT_FOUND and not answer.errors:
            return None
        if answer.status != OK:
            raise unexpected(answer, "kv")
        data = answer.data.get("data")
        text = data.get("entry") if isinstance(data, dict) else None
        if not isinstance(text, str):
            raise Unavailable("journal in vault is damaged")
        return text

    async def close(self) -> None:
        """See `JournalStore.close`; ends the session, which the key store may share."""
        await self._session.close()

    def _path(self, tenant: str, sequence: int) -> str:
        demand_tenant(tenant)
        return f"{self._mount}/data/{FOLDER}/{tenant}/{sequence:010d}"
