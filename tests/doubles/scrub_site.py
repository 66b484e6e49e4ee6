"""Two targets over a real catalog with a clock of the test's, and those who verify and mend them."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.errors import RunLost, StoreError, StoreUnavailable
from gateway.model import Tenant, Version, new_id
from gateway.pacing.rate import Rate
from gateway.ports import Run, RunState, Stat
from gateway.repair.copying import Copier
from gateway.repair.findings import Tally
from gateway.repair.inventory import Inventory
from gateway.repair.opening import Opening
from gateway.repair.repairer import Repairer
from gateway.repair.scrub import Scrub, ScrubSettings
from gateway.targets.quorum import Role, Target
from tests.contracts.catalog.samples import START, FakeClock
from tests.doubles.blobs import Blob, commit
from tests.doubles.keys import MemoryKeys
from tests.doubles.stores import FaultyStore


class SilentStore(FaultyStore):
    """Answers nothing while it is silent, or for single keys."""

    silence: StoreError | None = None
    silent_keys: frozenset[str] = frozenset()
    withheld: frozenset[str] = frozenset()  # from listings alone
    checks = 0

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        if self.silence is not None:
            raise self.silence
        if key in self.silent_keys:
            raise StoreUnavailable("busy")
        async for piece in super().read(key, start, stop):
            yield piece

    async def stat(self, key: str) -> Stat:
        if self.silence is not None:
            raise self.silence
        return await super().stat(key)

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        if self.silence is not None:
            raise self.silence
        for stat in sorted([each async for each in super().list(prefix)], key=lambda s: s.key):
            if stat.key not in self.withheld:
                yield stat

    async def check(self) -> None:
        self.checks += 1
        if self.silence is not None:
            raise self.silence


@dataclass
class Row:
    """A ledger that remembers, and loses what it is told from the `after`-th time on."""

    run: Run = field(
        default_factory=lambda: Run(new_id(), "scrub", "east", "me", RunState.RUNNING, START, START)
    )
    saved: list[tuple[str, Mapping[str, int]]] = field(default_factory=list)
    stop_at: int = 1_000_000

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        if len(self.saved) >= self.stop_at:
            raise RunLost
        self.saved.append((cursor, progress))
        self.run = replace(self.run, cursor=cursor, progress=dict(progress))


class Site:
    """Two targets over a real catalog with a clock of the test's."""

    def __init__(self, catalog: SqlCatalog, clock: FakeClock, tenant: str) -> None:
        self.catalog, self.clock, self.tenant = catalog, clock, tenant
        self.primary, self.east = FaultyStore(), SilentStore()
        self.stores = {"primary": self.primary, "east": self.east}
        self.keys = MemoryKeys()
        self.rate = Rate()

    @property
    def targets(self) -> list[Target]:
        """Both."""
        roles = {"primary": Role.PRIMARY, "east": Role.BACKUP}
        return [Target(name, roles[name], store) for name, store in self.stores.items()]

    @property
    def repairer(self) -> Repairer:
        """What mends."""
        copier = Copier(self.stores, part_size=64 * 1024, parallel=2, rate=self.rate)
        return Repairer(self.catalog.replicas, copier, self.targets)

    def inventory(self, room: int = 1000) -> Inventory:
        """Return what compares listings."""
        return Inventory(
            self.catalog, self.catalog.replicas, self.targets, rate=self.rate, room=room
        )

    def scrub(self, **settings: object) -> Scrub:
        """Return what verifies."""
        chosen = ScrubSettings(parallel=2, patience=0.05, pause=0.01, sample=0.0)
        return Scrub(
            self.catalog.replicas,
            self.catalog.wraps,
            self.targets,
            Opening(self.keys),
            rate=self.rate,
            settings=replace(chosen, **settings),  # type: ignore[arg-type]
            clock=lambda: self.clock.now,
        )

    async def store(self, content: bytes = b"x" * 3000, *, inline: bool = False) -> Blob:
        """Store a version whole on both."""
        return await commit(
            self.catalog, self.tenant, content, self.stores, on=["primary", "east"], inline=inline
        )

    async def states(self, version: Version) -> dict[str, str]:
        """Return what the catalog knows of it."""
        found = await self.catalog.by_version(version.tenant, version.id)
        return {target: state.value for target, state in found.replicas.items()}

    async def share(self, **settings: object) -> Tally:
        """Verify what is due on the backup now."""
        row = Row()
        row.run = replace(row.run, started=self.clock.now)
        return await self.scrub(**settings).share("east", row)


@asynccontextmanager
async def scrub_site(home: Path, *, migrated: bool = False) -> AsyncGenerator[Site]:
    """Give a site with one tenant."""
    url, clock = f"sqlite:///{home}/catalog.db", FakeClock()
    if not migrated:
        await migrate(url)
    catalog = await open_catalog(url, clock=clock)
    tenant = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(tenant)
    try:
        yield Site(catalog, clock, tenant.id)
    finally:
        await catalog.close()
