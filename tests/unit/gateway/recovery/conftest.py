"""A bench that can lose its catalog, and what brings it back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.flow.pump import PumpSettings
from gateway.model import envelope_key, new_id
from gateway.pacing.patience import Patience
from gateway.ports import Piece
from gateway.recovery.catalog_backup import CatalogBackups
from gateway.recovery.rebuild import Rebuild, Report
from gateway.targets.quorum import Role, Target
from tests.doubles.runs import MemoryRuns
from tests.unit.gateway.conftest import PART, Bench, bench

LEASE = timedelta(milliseconds=50)


@dataclass
class Site:
    """A bench, and what rebuilds its catalog."""

    bench: Bench
    new_catalog: Callable[[], Awaitable[SqlCatalog]]
    runs: MemoryRuns = field(default_factory=MemoryRuns)

    @property
    def east(self) -> Target:
        """The backup that everything comes back from."""
        return Target("east", Role.BACKUP, self.bench.east)

    def backups(self, catalog: SqlCatalog | None = None, keep: int = 30) -> CatalogBackups:
        """Return what copies the catalog."""
        return CatalogBackups(
            (catalog or self.bench.catalog).dumps,
            self.bench.keys,
            self.bench.targets,
            pool=self.bench.pool,
            background=self.bench.background,
            settings=PumpSettings(part_size=PART, inline=1024, max_size=2**40),
            keep=keep,
        )

    def rebuild(self, catalog: SqlCatalog) -> Rebuild:
        """Return what rebuilds into a catalog."""
        return Rebuild(
            catalog,
            catalog.recovery,
            self.runs,
            self.bench.keys,
            self.backups(catalog),
            lease=LEASE,
            patience=lambda: Patience(0),
        )

    async def rebuilt(self, *, use_backup: bool = True) -> tuple[SqlCatalog, Report]:
        """Lose the catalog, and rebuild it from one backup."""
        catalog = await self.new_catalog()
        report = await self.rebuild(catalog).run(self.east, use_backup=use_backup)
        self.bench.catalog = catalog
        return catalog, report

    async def envelope(self, blob: str, tenant: str | None = None) -> bytes:
        """Return the envelope of a blob as the backup has it."""
        return await self.object(envelope_key(tenant or self.bench.tenant, blob))

    async def object(self, key: str) -> bytes:
        """Return an object of the backup."""
        return b"".join([piece async for piece in self.bench.east.read(key)])

    async def plant(self, key: str, data: bytes) -> None:
        """Put an object into the backup, in the place of what is there."""
        await self.bench.east.delete(key)
        await self.bench.east.put(key, Piece(memoryview(data), crc64nvme(data)))


@pytest.fixture
async def site(bench: Bench, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a bench that can lose its catalog."""
    async with AsyncExitStack() as stack:

        async def new_catalog() -> SqlCatalog:
            url = f"sqlite:///{tmp_path / new_id()}.db"
            await migrate(url)
            catalog = await open_catalog(url)
            stack.push_async_callback(catalog.close)
            return catalog

        yield Site(bench, new_catalog)


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes of which no two pieces look alike."""
    return bytes((seed + at * 7) % 251 for at in range(size))


__all__ = ["Site", "bench", "content"]
