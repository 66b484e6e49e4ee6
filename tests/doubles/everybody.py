"""Everybody at work at once on one tenant: two processes over one catalog, and stores that are slow and fail.

What is true is remembered beside it: what was acknowledged, what may be gone, and which copies were harmed.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from gateway.attachments.tenants import Tenants
from gateway.attachments.uploads import Draft
from gateway.catalog import SqlCatalog
from gateway.duties.purger import Purger
from gateway.duties.reaper import Reaper
from gateway.errors import CatalogUnavailable, GatewayError, NotFound
from gateway.model import Precondition, Retention, now
from gateway.pacing.background import Background
from gateway.pacing.rate import Rate
from gateway.recovery.refill import Refill
from gateway.recovery.restore import Restore, Scope, anyone
from gateway.repair.copying import Copier
from gateway.repair.inventory import Inventory
from gateway.repair.opening import Opening
from gateway.repair.repairer import Repairer, RepairSettings
from gateway.repair.scrub import Scrub, ScrubSettings
from keyservice.wire import KeyServiceError
from tests.doubles.keys import MemoryKeys
from tests.doubles.resealing import content_of, resealer
from tests.doubles.rotating import Tool
from tests.doubles.scrub_site import Row
from tests.doubles.slow_store import SlowStore
from tests.unit.gateway.conftest import PART, Bench, pieces

REFUSED: Final = (GatewayError, KeyServiceError)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MONTH = 31 * DAY
_NAMES = ("one", "two", "three")
_SIZES = (10, 3000, 3000, PART + 100)  # the first travels in its envelope


class Ticking:
    """A clock for catalogs that no two transactions read alike, as none do in earnest."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self, connection: Connection) -> datetime:
        """Tell the time."""
        del connection
        self.now += timedelta(microseconds=1)
        return self.now


class Process:
    """A gateway with its worker, over a catalog of its own."""

    def __init__(
        self, catalog: SqlCatalog, background: Background, keys: MemoryKeys, stores: list[SlowStore]
    ) -> None:
        primary, east, west = stores
        self.catalog = catalog
        self.bench = Bench(catalog, background, keys=keys, primary=primary, east=east, west=west)
        self.bench.patience = 0.2
        self.bench.ahead._fresh = 0.0
        self.placing = self.bench.placing
        self.targets = self.bench.targets
        self.stores = {target.name: target.store for target in self.targets}
        self.copier = Copier(self.stores, part_size=PART, parallel=2, rate=Rate())
        self._seconds = 0.0
        self._repairer = Repairer(
            catalog.replicas,
            self.copier,
            self.targets,
            settings=RepairSettings(parallel=2),
            clock=lambda: self._seconds,
        )

    @property
    def repairer(self) -> Repairer:
        """The one that repairs; it has rested enough, and looks at what is in doubt."""
        self._seconds += 100.0
        return self._repairer

    @property
    def tool(self) -> Tool:
        """What rotates."""
        return Tool(self.catalog, self.bench.keys, self.targets)

    async def list_and_scrub(self, target: str) -> None:
        """Find what is wrong with a target."""
        catalog, row = self.catalog, Row()
        inventory = Inventory(catalog, catalog.replicas, self.targets, rate=Rate(), room=1000)
        await inventory.take(target)
        await Scrub(
            catalog.replicas,
            catalog.wraps,
            self.targets,
            Opening(self.bench.keys),
            rate=Rate(),
            settings=ScrubSettings(parallel=2, patience=0.02, pause=0.01, sample=0.3),
        ).all(target, row)

    async def purge(self) -> None:
        """Purge what is due."""
        await Purger(self.catalog.bin, self.catalog.wraps, self.targets).run()

    async def reap(self) -> None:
        """Remove what broken uploads left."""
        await Reaper(self.catalog, self.targets).uploads()

    async def restore(self, target: str, tenant: str) -> None:
        """Bring back whatever a target lacks, whatever the catalog says."""
        work = Refill(
            self.catalog,
            self.catalog.replicas,
            self.stores[target],
            self.copier,
            scope=Scope(tenant),
            target=target,
            sources=[name for name in self.stores if name != target],
        )
        await Restore(work, refusal=anyone, parallel=2).run()


@dataclass
class Truth:
    """What is so, whatever the catalog says."""

    stored: dict[str, bytes] = field(default_factory=dict)  # what was acknowledged, by version
    of: dict[str, str] = field(default_factory=dict)  # version: attachment
    turns: dict[str, tuple[int, int]] = field(default_factory=dict)  # version: began, acknowledged
    turn: int = 0
    deleted: set[str] = field(default_factory=set)  # attachments, whether they came back or not
    purged: set[str] = field(default_factory=set)  # attachments whose purge was asked for
    due: set[str] = field(default_factory=set)  # versions whose time had come
    aged: bool = False  # a month passes just now
    harmed: set[tuple[str, str]] = field(default_factory=set)  # blobs and targets

    def next(self) -> int:
        """Count what happens."""
        self.turn += 1
        return self.turn

    def age(self) -> None:
        """Take note of what may be gone, since a month passed: it was deleted, or may have been replaced."""
        for version, attachment in self.of.items() if self.aged else ():
            others = (each for each, of in self.of.items() if of == attachment and each != version)
            replaced = any(self.turns[each][1] > self.turns[version][0] for each in others)
            if replaced or attachment in self.deleted:
                self.due.add(version)
        self.aged = False

    @contextmanager
    def unsure(self) -> Iterator[None]:
        """Take everything for deleted where nobody knows what became of a call."""
        try:
            yield
        except (CatalogUnavailable, asyncio.CancelledError):
            self.deleted |= set(self.of.values())
            raise

    def may_lack(self, version: str) -> bool:
        """Tell whether a version may be gone."""
        return self.aged or version in self.due or self.of[version] in self.purged


class World:
    """Two processes, and all that may happen: each method without an underscore but `begin`."""

    def __init__(self, catalogs: Sequence[SqlCatalog], background: Background, seed: int) -> None:
        self._dice, self._keys, self.truth = random.Random(seed), MemoryKeys(), Truth()
        self.stores = [SlowStore(self._dice) for _ in range(3)]
        self.processes = [Process(each, background, self._keys, self.stores) for each in catalogs]
        self.tenant = ""

    async def begin(self) -> None:
        """Make the tenant, and something of each name."""
        catalog = self.processes[0].catalog
        self.tenant = (await Tenants(catalog, self._keys).create()).id
        for process in self.processes:
            process.bench.tenant = self.tenant
        await catalog.bin.tick(timedelta(), "one")
        await catalog.bin.retain(self.tenant, Retention(trash=30 * DAY, versions=1))
        for name in _NAMES:
            await self.put(name)

    async def put(self, name: str = "") -> None:
        """Store something."""
        content = self._dice.randbytes(self._dice.choice(_SIZES))
        process = self._process
        uploads = process.bench.uploads_under(process.placing)
        draft = Draft(self.tenant, name or self._dice.choice(_NAMES))
        began = self.truth.next()
        with self.truth.unsure():
            receipt = await uploads.store(draft, pieces(content))
        self.truth.stored[receipt.version.id] = content
        self.truth.of[receipt.version.id] = receipt.attachment.id
        self.truth.turns[receipt.version.id] = began, self.truth.next()

    async def read(self) -> None:
        """Read something that was acknowledged."""
        version, process = self._dice.choice(list(self.truth.stored)), self._process
        try:
            found = await process.catalog.by_version(self.tenant, version)
        except NotFound:
            assert self.truth.may_lack(version), version
            return
        with suppress(*REFUSED):
            assert await content_of(process.bench, found) == self.truth.stored[version]

    async def delete(self) -> None:
        """Move something to the trash."""
        name = self._dice.choice(_NAMES)
        with self.truth.unsure():
            gone = await self._process.catalog.trash(self.tenant, name, Precondition())
        self.truth.deleted.add(gone.id)

    async def undelete(self) -> None:
        """Bring something back."""
        catalog = self._process.catalog
        for trashed in (await catalog.bin.trashed(self.tenant))[:1]:
            await catalog.bin.undelete(self.tenant, trashed.attachment.id)

    async def doom(self) -> None:
        """Have something in the trash purged at once."""
        process = self._process
        if trashed := await process.catalog.bin.trashed(self.tenant):
            chosen = self._dice.choice(trashed).attachment.id
            self.truth.purged.add(chosen)
            await process.catalog.bin.doom_now(self.tenant, chosen)
        await process.purge()

    async def purge(self) -> None:
        """Purge what is due."""
        await self._process.purge()

    async def hold(self) -> None:
        """Begin or end a hold."""

        def other(now: Retention) -> Retention:
            ends = datetime.max.replace(tzinfo=UTC) if now.hold is None else None
            return Retention(now.trash, now.versions, now.age, ends)

        await self._process.catalog.bin.amend(self.tenant, other)

    async def repair(self) -> None:
        """Bring back what is missing on a target."""
        await self._process.repairer.repair(self._target)

    async def adopt(self) -> None:
        """Record what a target has no row of."""
        await self._process.repairer.adopt(self._target)

    async def scrub(self) -> None:
        """Find what is wrong with a target."""
        await self._process.list_and_scrub(self._target)

    async def restore(self) -> None:
        """Bring back what a target lacks."""
        await self._process.restore(self._target, self.tenant)

    async def rotate(self) -> None:
        """Give the tenant a new KEK, of which not everybody has heard, and bring everything under it."""
        if self._dice.random() < 0.5:
            self._keys.behind[self.tenant] = self._keys.current(self.tenant)
        await self._process.tool.rotate(self.tenant, fresh=self._dice.random() < 0.7)

    async def push(self) -> None:
        """Write what is stale on a target."""
        await self._process.tool.pushing.shift(self._target)

    async def retire(self) -> None:
        """Destroy a KEK that was replaced and that nothing refers to."""
        keks, wraps = list(self._keys._keks[self.tenant])[:-1], self._process.catalog.wraps
        if keks and (chosen := self._dice.choice(keks)) != self._keys.behind.get(self.tenant):
            await wraps.retiring(self.tenant, chosen)
            used = {use.kek for use in await wraps.uses(self.tenant)}
            if chosen not in used and chosen in self._keys._keks[self.tenant]:
                self._keys.forget(self.tenant, chosen)

    async def reseal(self) -> None:
        """Seal something again."""
        version = self._dice.choice(list(self.truth.stored))
        bench = self._process.bench
        await resealer(bench).version(self.tenant, version, before=now() + 1000 * DAY)

    async def reap(self) -> None:
        """Remove what broken uploads left."""
        await self._process.reap()

    async def promote(self) -> None:
        """Decide which target is the primary."""
        placements = self._process.catalog.placements
        await placements.promote(self._target, epoch=(await placements.placement()).epoch)

    async def lose(self) -> None:
        """Harm what the last target has."""
        if keys := self.stores[-1].keys:
            key = self._dice.choice(keys)
            self.truth.harmed.add((key.split("/")[2], "west"))
            self.stores[-1].harm(key)

    async def wait(self) -> None:
        """Let leases end, for those who are slow."""
        await asyncio.sleep(0.01)
        self._clock.now += self._dice.choice([HOUR / 6, HOUR])

    async def age(self) -> None:
        """Let a month pass."""
        self.truth.aged = True
        self._clock.now += MONTH
        await self._process.catalog.bin.tick(MONTH, "one")

    @property
    def _clock(self) -> Ticking:
        clock = self.processes[0].catalog._clock
        assert isinstance(clock, Ticking)
        return clock

    @property
    def _process(self) -> Process:
        return self._dice.choice(self.processes)

    @property
    def _target(self) -> str:
        return self._dice.choice(list(self.processes[0].stores))
