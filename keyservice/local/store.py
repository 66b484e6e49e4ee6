"""The key store of a single machine: a folder of JSON records, one a tenant.

For development, tests and small installations. Same port and same contract tests as Vault. Several processes
of one machine may share the folder: a lock file orders their writes. Only the newest version of a
record is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from keyservice.errors import Conflict, UnknownTenant
from keyservice.files import os_unavailable, write_durably
from keyservice.ports import RootStatus
from keyservice.records import (
    TenantRecord,
    Versioned,
    demand_tenant,
    from_document,
    is_tenant,
    to_document,
)

MAX_RECORD = 1 << 20


class FolderKeyStore:
    """One JSON file a tenant, replaced atomically under a lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def prepare(self) -> None:
        """Create the folder unless there is one."""
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)

    async def read(self, tenant: str) -> Versioned:
        """See `KeyStore.read`."""
        with os_unavailable("tenant record cannot be read"):
            return await asyncio.to_thread(self._read, tenant)

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        """See `KeyStore.write`."""
        with os_unavailable("tenant record cannot be written"):
            return await asyncio.to_thread(self._write, record, expected_version)

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        """See `KeyStore.past`; there is never more than the newest version."""
        held = await self.read(tenant)
        return held.record if held.version == version else None

    async def forget(self, tenant: str, before: int) -> None:  # noqa: ARG002 - keeps the newest only
        """See `KeyStore.forget`; there is never more than the newest version."""
        await self.read(tenant)

    async def tenants(self) -> Sequence[str]:
        """See `KeyStore.tenants`."""
        with os_unavailable("tenant records cannot be listed"):
            return await asyncio.to_thread(self._list)

    async def status(self) -> RootStatus:
        """See `KeyStore.status`."""
        usable = await asyncio.to_thread(os.access, self._folder, os.R_OK | os.W_OK | os.X_OK)
        detail = "folder of records" if usable else "folder of records cannot be read or written"
        return RootStatus(healthy=usable, detail=detail)

    async def close(self) -> None:
        """See `KeyStore.close`."""

    def _path(self, tenant: str) -> Path:
        demand_tenant(tenant)
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
            if len(content) > MAX_RECORD:  # nobody could read it again
                raise ValueError("tenant record is too large")
            write_durably(self._path(record.tenant), content, replace=True)
            return held + 1

    def _list(self) -> list[str]:
        names = (path.stem for path in self._folder.glob("*.json"))
        return sorted(name for name in names if is_tenant(name))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file unlocks
            yield
