"""A key store that remembers versions and can die at any step, and what destroys on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from keyservice.errors import Unavailable
from keyservice.records import RootRef, TenantRecord, Versioned
from keyservice.shredding.ledger import Destruction, Entry
from keyservice.shredding.ledger_file import LedgerFile
from tests.unit.keyservice.fakes import FakeRoot, FakeStore


class Died(Exception):
    """The process was killed here."""


@dataclass
class Fuse:
    """Counts steps, and dies before one of them (or after it, when it was done)."""

    at: int = 0
    after: bool = False
    steps: list[str] = field(default_factory=list)

    def burn(self, step: str) -> None:
        """Die before the step if it is its turn."""
        self.steps.append(step)
        if len(self.steps) == self.at and not self.after:
            raise Died(step)

    def burnt(self, step: str) -> None:
        """Die after the step if it was its turn."""
        if len(self.steps) == self.at and self.after:
            raise Died(step)


class MortalStore(FakeStore):
    """Keeps all versions of a record until they are forgotten, as a KV engine does."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse
        self.versions: dict[str, dict[int, TenantRecord]] = {}

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        self.fuse.burn("write")
        version = await super().write(record, expected_version)
        self.versions.setdefault(record.tenant, {})[version] = record
        self.fuse.burnt("write")
        return version

    async def forget(self, tenant: str, before: int) -> None:
        self.fuse.burn("forget")
        if self.down:
            raise Unavailable("fake store is down")
        kept = self.versions.get(tenant, {})
        for version in [version for version in kept if version < before]:
            del kept[version]
        self.fuse.burnt("forget")

    def wrapped(self, tenant: str) -> list[str]:
        """Return every wrapped KEK that any version still holds."""
        return [
            kek.wrapped
            for record in self.versions.get(tenant, {}).values()
            for kek in record.keks
            if kek.wrapped
        ]

    def snapshot(self) -> tuple[dict[str, Versioned], dict[str, dict[int, TenantRecord]]]:
        """Return a backup."""
        return dict(self.held), {tenant: dict(held) for tenant, held in self.versions.items()}

    def restore(
        self, backup: tuple[dict[str, Versioned], dict[str, dict[int, TenantRecord]]]
    ) -> None:
        """Bring a backup back."""
        self.held = dict(backup[0])
        self.versions = {tenant: dict(held) for tenant, held in backup[1].items()}


class MortalRoot(FakeRoot):
    """Burns the fuse at each destruction of a root key."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse
        self.destroyed: list[RootRef] = []

    async def destroy(self, tenant: str, root: RootRef) -> None:
        self.fuse.burn("destroy")
        await super().destroy(tenant, root)
        self.destroyed.append(root)
        self.fuse.burnt("destroy")


class MortalLedger(LedgerFile):
    """Burns the fuse at each entry."""

    fuse: Fuse

    async def add(self, destruction: Destruction) -> Entry:
        self.fuse.burn("ledger")
        entry = await super().add(destruction)
        self.fuse.burnt("ledger")
        return entry


def ledger_in(folder: Path, fuse: Fuse | None = None, *trusted: str) -> MortalLedger:
    """Open the ledger of a folder."""
    ledger = MortalLedger(folder / "shred.ledger", folder / "shred.key", trusted)
    ledger.fuse = fuse or Fuse()
    return ledger
