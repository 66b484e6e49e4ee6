"""Many rewrap, push, repair, scrub and reseal at once, on both databases: no older copy goes unnoticed."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from gateway.catalog import SqlCatalog, tables
from gateway.model import ReplicaState, Version, new_id
from gateway.ports import Finding, Rewrapped, Stale
from tests.contracts.catalog.samples import FakeClock, kek_of, put

LEASE = timedelta(minutes=1)
TARGETS = ("backup", "primary")
BOTH = dict.fromkeys(TARGETS, ReplicaState.STORED)
KEKS = 6
VERSIONS = 6


class Place:
    """Stores that hold nothing but which KEK an envelope is under, and those who work on them."""

    def __init__(self, catalogs: Sequence[SqlCatalog], tenant: str, clock: FakeClock) -> None:
        self.catalogs, self.tenant, self.clock = catalogs, tenant, clock
        self.random = random.Random(5)
        self.copies: dict[tuple[str, str], str] = {}  # by blob and target

    @property
    def catalog(self) -> SqlCatalog:
        """Any of them."""
        return self.random.choice(self.catalogs)

    async def pause(self, calls: int = 0) -> None:
        """Let the others go on for as long as some calls take, or so many."""
        for _ in range(calls or self.random.randrange(4)):
            await self.catalog.wraps.schedule(self.tenant)

    async def fill(self) -> None:
        """Make versions, each with a copy on every target."""
        for number in range(VERSIONS):
            version = await put(self.catalog, self.tenant, str(number), replicas=BOTH)
            for target in TARGETS:
                self.copies[version.blob, target] = version.kek

    async def rewrap(self, number: int) -> None:
        """Bring all there is under another KEK, whatever it is under."""
        for old in range(1, KEKS + 1):
            found = await self.catalog.wraps.on_kek(kek_of(self.tenant, old))
            await self.pause()
            changes = [
                Rewrapped(
                    each.version.id, each.version.blob, each.kek, kek_of(self.tenant, number), b"e"
                )
                for each in found
            ]
            for change in changes:
                await self.catalog.wraps.rewrap([change])

    async def push(self, *, late: bool) -> None:
        """Write what is stale; perhaps only after the lease ended."""
        catalog = self.catalog
        found = await catalog.wraps.claim_stale(
            tenant=self.random.choice([None, self.tenant]), targets=TARGETS, lease=LEASE, limit=4
        )
        if late:  # until somebody else has done it
            self.clock.now += 2 * LEASE
            await self.pause(30)
        await asyncio.gather(*(self._write(catalog, stale) for stale in found))

    async def _write(self, catalog: SqlCatalog, stale: Stale) -> None:
        await self.pause()
        self.copies[stale.version.blob, stale.target] = stale.version.kek
        await self.pause()
        if self.random.random() < 0.1:
            await catalog.wraps.failed_push(stale, timedelta())  # its answer was lost
        else:
            await catalog.wraps.pushed(stale, stale.version.kek)

    async def lose(self) -> None:
        """Report copies as lost, and bring them back."""
        catalog = self.catalog
        page = await catalog.replicas.held(self.random.choice(TARGETS), limit=VERSIONS)
        for held in self.random.sample(list(page), 2):
            lost = Finding(
                held.version.id, "backup", ReplicaState.MISSING, "absent", held.version.blob
            )
            await catalog.replicas.report([lost])
        await self.repair()

    async def repair(self) -> None:
        """Bring back what is missing, with the envelope that was read when it was claimed."""
        catalog = self.catalog
        gaps = await catalog.replicas.claim(TARGETS, lease=LEASE, limit=9, newest=True)
        for gap in gaps:
            await self.pause()
            if self.random.random() < 0.5:  # else it was there after all, and stays as it is
                self.copies[gap.version.blob, gap.target] = gap.version.kek
            kek = self.copies.get((gap.version.blob, gap.target), gap.version.kek)
            self.copies.setdefault((gap.version.blob, gap.target), kek)
            await self.pause()
            if self.random.random() < 0.1:
                await catalog.replicas.failed(gap, timedelta())  # its answer was lost
            else:
                await catalog.replicas.filled(gap, kek)

    async def scrub(self) -> None:
        """Tell what the copies are under."""
        catalog = self.catalog
        for target in TARGETS:
            for held in await catalog.replicas.held(target, limit=VERSIONS):
                kek = self.copies.get((held.version.blob, target))
                await self.pause()
                if kek is not None and held.state is ReplicaState.STORED:
                    stored = ReplicaState.STORED
                    await catalog.replicas.report(
                        [Finding(held.version.id, target, stored, "", held.version.blob, kek)]
                    )

    async def reseal(self) -> None:
        """Give a version another blob, on one target first."""
        catalog = self.catalog
        (version,) = self.random.sample(await self.versions(), 1)
        new = replace(version, blob=new_id(), kek=kek_of(self.tenant, 1), envelope=b"s")
        if await catalog.wraps.intend(version, new.blob, new.kek):
            self.copies[new.blob, "primary"] = new.kek
            await self.pause()
            await catalog.wraps.switch(new, version.blob, {"primary": ReplicaState.STORED})

    async def versions(self) -> list[Version]:
        """Return all as they are now."""
        page = await self.catalog.replicas.held("primary", limit=VERSIONS)
        return [held.version for held in page]

    async def unnoticed(self) -> list[tuple[str, str, str]]:
        """Return stored copies under another KEK than their version, of which no row knows."""
        catalog = self.catalogs[0]
        rows = await catalog._database.read(lambda c: c.execute(select(tables.stale)).all())
        known = {(row.version, row.target): row.keks.split() for row in rows}
        wrong = []
        for target in TARGETS:
            for held in await catalog.replicas.held(target, limit=VERSIONS):
                kek = self.copies.get((held.version.blob, target), "none")
                row = known.get((held.version.id, target), [])
                if held.state is ReplicaState.STORED and kek not in {held.version.kek, *row}:
                    wrong.append((held.version.id, target, kek))
        return wrong


async def _again(place: Place) -> None:
    for _ in range(4):
        await place.push(late=False)
        await place.pause(4)


@pytest.mark.parametrize("resealing", [False, True])
async def test_no_older_copy_goes_unnoticed(
    several: list[SqlCatalog], tenant: str, clock: FakeClock, *, resealing: bool
) -> None:
    place = Place(several, tenant, clock)
    await place.fill()
    for step in range(4):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(place.rewrap(place.random.randrange(1, KEKS + 1)))
                group.create_task(place.push(late=step % 2 == 1))
                group.create_task(_again(place))
            group.create_task(place.lose())
            group.create_task(place.repair())
            group.create_task(place.scrub())
            if resealing:
                group.create_task(place.reseal())
                group.create_task(place.reseal())
        assert await place.unnoticed() == [], step
    for _ in range(20):
        clock.now += 2 * LEASE
        await place.repair()
        await place.push(late=False)
        if not any(use.stale for use in await several[0].wraps.uses(tenant)):
            break
    for version in await place.versions():
        assert {place.copies[version.blob, target] for target in TARGETS} == {version.kek}
    assert not any(use.stale for use in await several[0].wraps.uses(tenant))
