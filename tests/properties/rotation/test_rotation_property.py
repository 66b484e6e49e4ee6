"""Whatever two tools, uploads and failures do at once, everything is readable and nothing on an old KEK.

The catalog is the real one, on SQLite; stores and keys are in memory. The second tool has runs of its own,
so that no row keeps the two apart: only what the catalog compares does.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.attachments.tenants import Tenants
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.errors import NotFound, StoreUnavailable
from gateway.model import Precondition, new_id
from gateway.pacing.background import Background
from keyservice.wire import KeyServiceError, Unavailable, WrappedKey
from tests.contracts.catalog.samples import FakeClock
from tests.doubles.keys import MemoryKeys
from tests.doubles.rotating import Tool, keks_on
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import Bench

NAMES = ("one", "two", "three")
SIZES = (10, 3000)  # the first travels in its envelope

steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("rotate"), st.sampled_from((0, 1))),
    st.tuples(st.just("kill"), st.sampled_from((0, 1))),
    st.tuples(st.just("down"), st.sampled_from((0, 1))),
    st.tuples(st.just("up"), st.none()),
    st.tuples(st.just("sealed"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(1, 20)),
)


class Away(FaultyStore):
    """Answers nothing while it is down, or fails now and then after the fact."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.down = False
        self.dice = dice

    async def replace(self, key: str, piece: object) -> None:
        await self.check()
        await asyncio.sleep(0)
        await super().replace(key, piece)  # type: ignore[arg-type]
        if self.dice.random() < 0.1:
            raise StoreUnavailable("the answer was lost")

    async def check(self) -> None:
        if self.down:
            raise StoreUnavailable("down")


class Sealed(MemoryKeys):
    """Is away for so many calls when a test says so."""

    left = 0

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        if self.left:
            self.left -= 1
            raise Unavailable("sealed")
        return await super().rewrap(tenant, keys, reason=reason, request_id=request_id)


@dataclass
class World:
    """A gateway, two tools, and what is stored."""

    bench: Bench
    keys: Sealed
    stores: list[Away]
    tools: list[Tool]
    clock: FakeClock
    dice: random.Random
    stored: dict[str, bytes] = field(default_factory=dict)
    at: list["asyncio.Task[object] | None"] = field(default_factory=lambda: [None, None])

    async def put(self, name: str) -> None:
        content = self.dice.randbytes(self.dice.choice(SIZES))
        await self.bench.store(content, name)
        self.stored[name] = content

    async def delete(self, name: str) -> None:
        with suppress(NotFound):
            await self.bench.catalog.trash(self.bench.tenant, name, Precondition())
            del self.stored[name]

    async def rotate(self, tool: int) -> None:
        running = self.at[tool]
        if running is None or running.done():
            tenant = self.bench.tenant
            if self.dice.random() < 0.5:  # an instance has not heard of it when it makes data keys
                self.keys.behind[tenant] = self.keys.current(tenant)
            self.at[tool] = asyncio.create_task(self.tools[tool].rotate(tenant))

    async def kill(self, tool: int) -> None:
        running = self.at[tool]
        if running is not None:
            running.cancel()
            await asyncio.wait([running])

    async def finish(self) -> None:
        """Let everything come to its end without faults, and finish it with one tool."""
        for tool in (0, 1):
            if (running := self.at[tool]) is not None:
                await asyncio.wait([running])
        self.keys.behind.clear()
        self.keys.left = 0
        for store in self.stores:
            store.down = False
            store.dice = random.Random(0)
            store.dice.random = lambda: 1.0  # type: ignore[method-assign]
        await self.bench.background.settle()
        for _ in range(5):
            self.clock.now += timedelta(hours=3)  # what failed is due again, and no lease lasts
            (rotated,) = await self.tools[0].rotate(self.bench.tenant, fresh=False)
            assert rotated.error is None
            if rotated.renewed.complete:
                return
        raise AssertionError(rotated)

    async def judge(self) -> None:
        """Nothing is under an older KEK anywhere, so that everything can be read without it."""
        tenant, current = self.bench.tenant, self.keys.current(self.bench.tenant)
        uses = [use for use in await self.bench.catalog.wraps.uses(tenant) if use.versions]
        assert {use.kek for use in uses} <= {current}
        for store in self.stores:
            assert set((await keks_on(store)).values()) <= {frozenset({current})}
        for kek in list(self.keys._keks[tenant]):
            if kek != current:
                self.keys.forget(tenant, kek)
        for name, content in self.stored.items():
            assert await self.bench.read(name) == content


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the content of a migrated, empty file."""
    path = tmp_path_factory.mktemp("rotation") / "pristine.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path.read_bytes()


async def worlds(folder: Path, pristine: bytes, seed: int) -> AsyncIterator[World]:
    """Give a fresh world."""
    clock, dice, keys = FakeClock(), random.Random(seed), Sealed()
    stores = [Away(dice) for _ in range(3)]
    async with AsyncExitStack() as stack:
        opened: list[SqlCatalog] = []
        for name in (new_id(), new_id()):
            (folder / name).write_bytes(pristine)
            opened.append(await open_catalog(f"sqlite:///{folder / name}", clock=clock))
            stack.push_async_callback(opened[-1].close)
        background = await stack.enter_async_context(Background())
        primary, east, west = stores
        bench = Bench(opened[0], background, keys=keys, primary=primary, east=east, west=west)
        bench.tenant = (await Tenants(bench.catalog, keys).create()).id
        bench.ahead._fresh = 0.0
        tools = [Tool(bench.catalog, keys, bench.targets) for _ in range(2)]
        tools[1].runs = opened[1].runs
        yield World(bench, keys, stores, tools, clock, dice)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(steps, min_size=4, max_size=24), seed=st.integers(0, 2**32))
def test_whatever_happens_everything_is_readable_and_nothing_left(
    tmp_path_factory: pytest.TempPathFactory,
    pristine: bytes,
    script: list[tuple[str, object]],
    seed: int,
) -> None:
    async def run() -> None:
        async for world in worlds(tmp_path_factory.mktemp("world"), pristine, seed):
            for what, how in [("put", "one"), ("put", "two"), *script]:
                await step(world, what, how)
                await asyncio.sleep(0)
            await world.finish()
            await world.judge()

    asyncio.run(run())


async def step(world: World, what: str, how: object) -> None:
    """Do one step of a script; rotations go on beside the next ones."""
    if what == "down" and isinstance(how, int):
        world.stores[how].down = True
    elif what == "up":
        for store in world.stores:
            store.down = False
    elif what == "sealed" and isinstance(how, int):
        world.keys.left = how
    elif what == "wait" and isinstance(how, int):
        await asyncio.sleep(how / 1000)
    elif what in {"rotate", "kill"} and isinstance(how, int):
        await {"rotate": world.rotate, "kill": world.kill}[what](how)
    else:
        await {"put": world.put, "delete": world.delete}[what](str(how))
