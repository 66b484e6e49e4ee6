"""No sequence of operations, jumps of the clock included, purges anything before its time.

The catalog is the real one, on SQLite; the database's clock is ours, and jumps; true time is counted
beside it, as the monotonic clock of a gateway counts it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.errors import CatalogConflict, NotFound
from gateway.model import Precondition, Retention, Tenant, new_id
from tests.contracts.catalog.samples import START, FakeClock, put

DAY = timedelta(days=1)
REFERENCES = ("one", "two")

days = st.floats(0, 45).map(lambda number: timedelta(days=number))
jumps = st.floats(-400, 400).map(lambda number: timedelta(days=number))
retentions = st.builds(
    Retention,
    trash=st.integers(30, 60).map(lambda number: timedelta(days=number)),
    versions=st.none() | st.integers(0, 2),
    age=st.none() | st.integers(0, 60).map(lambda number: timedelta(days=number)),
    hold=st.none() | days.map(lambda ahead: START + ahead),
)
steps = st.one_of(
    st.tuples(st.just("store"), st.sampled_from(REFERENCES)),
    st.tuples(st.just("delete"), st.sampled_from(REFERENCES)),
    st.tuples(st.just("undelete"), st.integers(0, 5)),
    st.tuples(st.just("pass"), days),
    st.tuples(st.just("jump"), jumps),
    st.tuples(st.just("retain"), retentions),
    st.tuples(st.just("purge"), st.none()),
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the content of a migrated, empty file."""
    path = tmp_path_factory.mktemp("trash") / "pristine.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path.read_bytes()


@pytest.fixture
def fresh(pristine: bytes, tmp_path: Path) -> Callable[[], str]:
    """Give a function that returns the URL of an empty catalog."""

    def url() -> str:
        path = tmp_path / f"{new_id()}.db"
        path.write_bytes(pristine)
        return f"sqlite:///{path}"

    return url


@dataclass
class World:
    """The catalog, and what is true of it."""

    catalog: SqlCatalog
    clock: FakeClock
    tenant: str
    true: timedelta = timedelta()  # since the beginning
    deleted: dict[str, timedelta] = field(default_factory=dict)  # attachment: when, in true time
    versions: dict[str, list[str]] = field(default_factory=dict)  # attachment: oldest first
    replaced: dict[str, timedelta] = field(default_factory=dict)  # version: when, in true time
    live: dict[str, str] = field(default_factory=dict)  # reference: attachment
    doomed: set[str] = field(default_factory=set)
    retention: Retention = field(default_factory=Retention)

    async def store(self, reference: str) -> None:
        """Store a version."""
        version = await put(self.catalog, self.tenant, reference)
        self.live[reference] = version.attachment
        history = self.versions.setdefault(version.attachment, [])
        if history:
            self.replaced[history[-1]] = self.true
        history.append(version.id)

    async def delete(self, reference: str) -> None:
        """Delete an attachment."""
        try:
            gone = await self.catalog.trash(self.tenant, reference, Precondition())
        except NotFound:
            assert reference not in self.live
            return
        assert self.live.pop(reference) == gone.id
        self.deleted[gone.id] = self.true

    async def undelete(self, number: int) -> None:
        """Bring one of the trash back; it is what it was."""
        trashed = await self.catalog.bin.trashed(self.tenant)
        assert {item.attachment.id for item in trashed} == set(self.deleted)
        if number >= len(trashed):
            return
        item = trashed[number]
        try:
            back = await self.catalog.bin.undelete(self.tenant, item.attachment.id)
        except CatalogConflict:
            assert item.attachment.reference in self.live
            return
        found = await self.catalog.find(self.tenant, back.reference)
        kept = [v for v in self.versions[back.id] if v not in self.doomed]
        assert (found.attachment.id, found.version.id) == (item.attachment.id, kept[-1])
        assert found.version.envelope == item.version.envelope
        self.live[back.reference] = back.id
        del self.deleted[back.id]

    async def passes(self, time: timedelta) -> None:
        """Let time pass, and a gateway count it."""
        self.true += time
        self.clock.now += time
        await self.catalog.bin.tick(time, "test")

    async def purge(self) -> None:
        """Purge what is due, and look whether it was."""
        while await self.catalog.bin.doom(3):
            pass
        now = {item.version.id for item in await self.catalog.bin.doomed(1000)}
        for version in now - self.doomed:
            self._judge(version)
        self.doomed |= now
        for attachment in [a for a in self.deleted if set(self.versions[a]) <= self.doomed]:
            del self.deleted[attachment]

    def _judge(self, version: str) -> None:
        attachment = next(a for a, history in self.versions.items() if version in history)
        keep, hold = self.retention, self.retention.hold
        assert hold is None or hold <= START + self.true
        if attachment in self.deleted and self.true - self.deleted[attachment] >= keep.trash:
            return
        assert version in self.replaced, "a version that is current was purged"
        since = self.true - self.replaced[version]
        newer = self.versions[attachment][self.versions[attachment].index(version) + 1 : -1]
        assert since >= keep.trash
        assert keep.versions is not None or keep.age is not None
        assert keep.versions is None or len(newer) >= keep.versions
        assert keep.age is None or since >= keep.age


@settings(max_examples=120, deadline=None)
@given(script=st.lists(steps, max_size=40))
def test_nothing_is_purged_before_its_time(
    fresh: Callable[[], str], script: list[tuple[str, object]]
) -> None:
    async def run() -> None:
        clock = FakeClock()
        catalog = await open_catalog(fresh(), clock=clock)
        try:
            world = World(catalog, clock, new_id())
            await catalog.add_tenant(Tenant(world.tenant, "standard", START))
            await catalog.bin.tick(timedelta(), "test")
            for what, how in script:
                await step(world, what, how)
        finally:
            await catalog.close()

    asyncio.run(run())


async def step(world: World, what: str, how: object) -> None:
    """Do one step of a script."""
    if what == "jump" and isinstance(how, timedelta):
        world.clock.now += how
    elif what == "pass" and isinstance(how, timedelta):
        await world.passes(how)
    elif what == "retain" and isinstance(how, Retention):
        world.retention = how
        await world.catalog.bin.retain(world.tenant, how)
    elif what == "undelete" and isinstance(how, int):
        await world.undelete(how)
    elif what == "purge":
        await world.purge()
    else:
        await {"store": world.store, "delete": world.delete}[what](str(how))


async def test_what_is_due_is_purged(fresh: Callable[[], str]) -> None:
    clock = FakeClock()
    catalog = await open_catalog(fresh(), clock=clock)
    try:
        world = World(catalog, clock, new_id())
        await catalog.add_tenant(Tenant(world.tenant, "standard", START))
        await catalog.bin.tick(timedelta(), "test")
        await world.store("one")
        await world.store("one")
        await world.delete("one")
        await world.passes(29 * DAY)
        await world.purge()
        assert not world.doomed
        await world.passes(2 * DAY)
        await world.purge()
        assert len(world.doomed) == 2
        assert not await catalog.bin.trashed(world.tenant)
    finally:
        await catalog.close()
