"""The use cases over stores in memory that can fail, a catalog on SQLite, and keys in memory."""

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.attachments.downloads import Downloads
from gateway.attachments.heartbeat import Heartbeat
from gateway.attachments.tenants import Tenants
from gateway.attachments.uploads import Draft, Receipt, Uploads
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.duties.record import take_over
from gateway.duties.resumed import resumed
from gateway.flow.buffers import Pool
from gateway.flow.pump import PumpSettings
from gateway.flow.replication import FanSettings, Replication
from gateway.keys.ahead import KeysAhead
from gateway.pacing.background import Background
from gateway.ports import Run
from gateway.targets.placing import Placing
from gateway.targets.policies import Policies
from gateway.targets.quorum import Quorum, Role, Target
from tests.doubles.keys import MemoryKeys
from tests.doubles.stores import FaultyStore

PART = 256 * 1024


@dataclass
class Bench:
    """A gateway without HTTP, its parts in reach."""

    catalog: SqlCatalog
    background: Background
    tenant: str = ""
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    primary: FaultyStore = field(default_factory=FaultyStore)
    east: FaultyStore = field(default_factory=FaultyStore)
    west: FaultyStore = field(default_factory=FaultyStore)
    quorum: Quorum = field(default_factory=Quorum)
    degraded: bool = False
    patience: float = 60.0  # a busy machine may rest: who wants a target to be let go sets less
    window: int = 3
    inline: int = 1024
    max_size: int = 64 * PART
    pool: Pool = field(default_factory=lambda: Pool(PART, 16 * PART))

    @property
    def stores(self) -> tuple[FaultyStore, ...]:
        """The primary and the backups."""
        return (self.primary, self.east, self.west)

    @property
    def targets(self) -> tuple[Target, ...]:
        """One primary, two backups."""
        return (
            Target("primary", Role.PRIMARY, self.primary, "eu"),
            Target("east", Role.BACKUP, self.east, "us"),
            Target("west", Role.BACKUP, self.west, "eu"),
        )

    @property
    def replication(self) -> Replication:
        """The fan-out over the three."""
        return self._replication(self.placing)

    @property
    def placing(self) -> Placing:
        """What holds as far as a gateway knows that was started just now and asked nobody."""
        return Placing(self.catalog.placements, self.targets)

    def _replication(self, placing: Placing) -> Replication:
        return Replication(
            lambda: placing.now,
            pool=self.pool,
            background=self.background,
            settings=FanSettings(
                window=self.window, parallel=1, patience=self.patience, degraded=self.degraded
            ),
        )

    @functools.cached_property
    def ahead(self) -> KeysAhead:
        """Keys at hand."""
        return KeysAhead(self.keys, self.background, fresh=30)

    @property
    def uploads(self) -> Uploads:
        """The upload use case."""
        return self.uploads_under(self.placing)

    def uploads_under(self, placing: Placing) -> Uploads:
        """Return the upload use case of a gateway that knows this placement."""
        return Uploads(
            self.catalog,
            self.keys,
            self._replication(placing),
            placing=placing,
            policies=Policies(self.catalog, self.quorum),
            ahead=self.ahead,
            heartbeat=Heartbeat(self.catalog),
            background=self.background,
            settings=PumpSettings(part_size=PART, inline=self.inline, max_size=self.max_size),
        )

    @property
    def downloads(self) -> Downloads:
        """The download use case."""
        return Downloads(self.catalog, self.keys, lambda: self.targets)

    async def store(self, content: bytes, reference: str = "report", step: int = 65536) -> Receipt:
        """Upload bytes in pieces of `step`."""
        return await self.uploads.store(Draft(self.tenant, reference), pieces(content, step))

    async def read(
        self, reference: str = "report", start: int = 0, stop: int | None = None
    ) -> bytes:
        """Download a range of the current version."""
        found = await self.catalog.find(self.tenant, reference)
        opened = await self.downloads.open(found, request_id="")
        end = opened.size if stop is None else stop
        async with aclosing(self.downloads.read(opened, start, end)) as stream:
            return b"".join([piece async for piece in stream])


async def pieces(content: bytes, step: int = 65536) -> AsyncGenerator[bytes]:
    """Stream bytes in pieces."""
    for start in range(0, len(content), step):
        yield content[start : start + step]


@pytest.fixture
def refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse at once what somebody is at, though leases last as long as a busy machine needs."""

    async def impatient(*wired: Any, **options: Any) -> Run:
        return await take_over(*wired, **{**options, "patience": 0.0})

    monkeypatch.setattr(sys.modules[resumed.__module__], "take_over", impatient)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a gateway without HTTP, with one tenant."""
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    await migrate(url)
    catalog = await open_catalog(url)
    try:
        async with Background() as background:
            made = Bench(catalog, background)
            made.tenant = (await Tenants(catalog, made.keys).create()).id
            yield made
    finally:
        await catalog.close()
