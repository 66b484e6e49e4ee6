"""Key journals of a single machine: a folder a tenant, a file a line.

Same port and same contract tests as Vault. Several processes of one machine may share the folder: a file is
made by a link, which one alone can make. Whoever may write to the folder may remove lines: see
`journal_entry` on what shows that.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from keyservice.errors import Conflict
from keyservice.files import os_unavailable, write_durably
from keyservice.records import demand_tenant

MAX_LINE = 1 << 20


class FolderJournal:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def head(self, tenant: str) -> int:
        """See `JournalStore.head`."""
        with os_unavailable("key journal cannot be read"):
            return await asyncio.to_thread(self._head, tenant)

    async def add(self, tenant: str, sequence: int, text: str) -> None:
        """See `JournalStore.add`."""
        with os_unavailable("key journal cannot be written"):
            await asyncio.to_thread(self._add, tenant, sequence, text)

    async def read(self, tenant: str, sequence: int) -> str | None:
        """See `JournalStore.read`."""
        with os_unavailable("key journal cannot be read"):
            return await asyncio.to_thread(self._read, tenant, sequence)

    async def close(self) -> None:
        """See `JournalStore.close`."""

    def _path(self, tenant: str, sequence: int) -> Path:
        demand_tenant(tenant)
        return self._folder / tenant / f"{sequence:010d}.json"

    def _head(self, tenant: str) -> int:
        names = (path.stem for path in self._path(tenant, 0).parent.glob("[0-9]*.json"))
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _add(self, tenant: str, sequence: int, text: str) -> None:
        path = self._path(tenant, sequence)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_durably(path, text.encode("ascii"), replace=False)
        except FileExistsError:
            raise Conflict("journal has another entry there") from None

    def _read(self, tenant: str, sequence: int) -> str | None:
        try:
            with self._path(tenant, sequence).open("rb") as file:
                return file.read(MAX_LINE).decode("ascii", "replace")
        except FileNotFoundError:
            return None
