"""Whatever happens at whichever step of a reseal, the old blob or the new one is the version's, and whole.

The catalog is the real one, on SQLite; stores and keys are in memory. At one step something fails, with or
without effect, or everything does from then on, as after kill -9; or somebody else does something.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.attachments.tenants import Tenants
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.duties.purger import Purger
from gateway.errors import CatalogUnavailable, GatewayError, NotFound, StoreUnavailable
from gateway.model import Precondition, ReplicaState, Version, now
from gateway.pacing.background import Background
from gateway.pacing.rate import Rate
from gateway.ports import Piece
from gateway.repair.copying import Copier
from gateway.repair.repairer import Repairer
from gateway.repair.verify import check_replica
from gateway.rotation.reseal import Outcome, Reseal
from keyservice.wire import Unavailable
from tests.doubles.resealing import LATER, content_of, resealer
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench

EVENTS = ("fail", "lose", "die", "reseal", "purge", "delete", "replace", "repair")
ERRORS = {"store": StoreUnavailable, "catalog": CatalogUnavailable, "keys": Unavailable}


async def nothing() -> None:
    """Go on."""


class Script:
    """Counts the steps, and says what happens at one of them."""

    def __init__(self) -> None:
        self.at = self.done = -1
        self.event = ""
        self.other: Callable[[], Awaitable[None]] | None = None
        self.running = False

    async def step(self, kind: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Do one step, or not."""
        if not self.running:
            return await call()
        self.done += 1
        if self.event == "die" and self.done >= self.at:
            raise ERRORS[kind]("gone")
        if self.done != self.at:
            return await call()
        if self.event == "fail":
            raise ERRORS[kind]("failed")
        if self.event == "lose":
            await call()
            raise ERRORS[kind]("the answer is lost")
        if self.other is not None:
            self.running = False
            await self.other()
            self.running = True
        return await call()


class Store(FaultyStore):
    """A store whose every call is a step."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script

    async def put(self, key: str, piece: Piece) -> None:
        async def put() -> None:
            await FaultyStore.put(self, key, piece)

        await self.script.step("store", put)

    async def step(self, what: str) -> None:
        if not what.startswith("put"):  # of those that are sent in parts
            await self.script.step("store", nothing)
        await super().step(what)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        await self.script.step("store", nothing)
        async for piece in super().read(key, start, stop):
            yield piece

    async def delete(self, key: str) -> None:
        async def delete() -> None:
            await FaultyStore.delete(self, key)

        await self.script.step("store", delete)


class Stepped:
    """Somebody whose every method is a step."""

    def __init__(self, inner: object, kind: str, script: Script) -> None:
        self._inner, self._kind, self._script = inner, kind, script

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*words: Any, **options: Any) -> Any:
            return await self._script.step(self._kind, lambda: method(*words, **options))

        return call


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated, empty file."""
    path = tmp_path_factory.mktemp("reseal") / "pristine.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


class World:
    """One version, somebody who reseals it, and what else may happen."""

    def __init__(self, catalog: SqlCatalog, background: Background) -> None:
        self.script = Script()
        primary, east, west = (Store(self.script) for _ in range(3))
        self.bench = Bench(catalog, background, primary=primary, east=east, west=west)
        self.bench.patience = 0.01
        self.content = b""
        self.purged = self.deleted = False

    async def begin(self, size: int) -> Version:
        """Store it."""
        self.bench.tenant = (await Tenants(self.bench.catalog, self.bench.keys).create()).id
        self.content = os.urandom(size)
        return (await self.bench.store(self.content)).version

    def reseal(self) -> Reseal:
        """Return who reseals, over the script's steps."""
        made = resealer(self.bench)
        made._wraps = Stepped(made._wraps, "catalog", self.script)
        made._catalog = Stepped(made._catalog, "catalog", self.script)
        made._keys = Stepped(made._keys, "keys", self.script)
        return made

    async def happen(self, event: str, version: Version) -> None:
        """Let somebody else do something, all of it."""
        bench = self.bench
        if event == "reseal":
            await resealer(bench).version(bench.tenant, version.id, before=now() + LATER)
        elif event in {"purge", "delete"}:
            gone = await bench.catalog.trash(bench.tenant, "report", Precondition())
            self.deleted = True
            if event == "purge":
                await bench.catalog.bin.doom_now(bench.tenant, gone.id)
                self.purged = True
                await self.purge()
        elif event == "replace":
            await bench.store(b"another", "report")
        elif event == "repair":
            await self.repair()

    async def repair(self) -> None:
        """Bring back what is missing anywhere."""
        bench = self.bench
        stores = {target.name: target.store for target in bench.targets}
        copier = Copier(stores, part_size=PART, parallel=2, rate=Rate())
        repairer = Repairer(bench.catalog.replicas, copier, bench.targets)
        for name in stores:
            await repairer.repair(name)

    async def purge(self) -> None:
        """Remove what is due."""
        bench = self.bench
        await Purger(bench.catalog.bin, bench.catalog.wraps, bench.targets).run()

    async def judge(self, version: Version) -> None:
        """Find the version whole, under one blob or the other, and nothing that nobody owns."""
        bench = self.bench
        there = {key.split("/")[2] for store in bench.stores for key in store.keys}
        assert there <= await bench.catalog.known(sorted(there)), "something is nobody's"
        if self.purged:
            with pytest.raises(NotFound):
                await bench.catalog.by_version(bench.tenant, version.id)
            return
        found = await bench.catalog.by_version(bench.tenant, version.id)
        assert await content_of(bench, found) == self.content
        assert (found.version.created, found.version.size) == (version.created, version.size)
        for target in bench.targets:
            if found.replicas[target.name] is ReplicaState.STORED:
                await check_replica(target.store, found.version)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([0, 500, 3000, 2 * PART + 100]),
    event=st.sampled_from(EVENTS),
    at=st.integers(0, 30),
)
def test_old_or_new_and_never_neither(pristine: Path, size: int, event: str, at: int) -> None:
    async def run(folder: Path) -> None:
        shutil.copy(pristine, folder / "catalog.db")
        catalog = await open_catalog(f"sqlite:///{folder / 'catalog.db'}")
        try:
            async with Background() as background:
                world = World(catalog, background)
                version = await world.begin(size)
                script = world.script
                script.at, script.event = at, event
                script.running = True
                async with (
                    asyncio.TaskGroup() as others
                ):  # not cut off with whoever was at that step

                    async def other() -> None:
                        await asyncio.shield(others.create_task(world.happen(event, version)))

                    script.other = other
                    with suppress(GatewayError, Unavailable):
                        before = now() + LATER
                        await world.reseal().version(world.bench.tenant, version.id, before=before)
                await background.settle()
                script.running = False
                await world.judge(version)
                again = await resealer(world.bench).version(
                    world.bench.tenant, version.id, before=now() + 2 * LATER
                )
                await background.settle()
                assert again is (Outcome.GONE if world.purged else Outcome.RESEALED)
                await world.repair()
                await world.judge(version)
                if world.purged:
                    await world.purge()
                    assert not any(store.keys for store in world.bench.stores)
        finally:
            await catalog.close()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        with TemporaryDirectory() as folder:
            asyncio.run(run(Path(folder)))
    finally:
        structlog.reset_defaults()
