"""Whatever everybody does at once, nothing is lost, unreadable, early or unnoticed: on both databases.

Uploads, the trash, purges, holds, repairs, scrubs, restores, rotations, retirements, reseals, failovers and
losses run beside each other in two processes, over stores that fail, while clocks jump and some are cancelled
wherever they are. When all are done the catalog is compared with what the stores hold; in the end everything
converges.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from sqlalchemy import select

from gateway.catalog import SqlCatalog, open_catalog, tables
from gateway.errors import GatewayError, NotFound
from gateway.model import ReplicaState
from gateway.pacing.background import Background
from gateway.repair.verify import check_replica
from tests.contracts.catalog.conftest import PATIENCE
from tests.doubles.everybody import HOUR, REFUSED, Ticking, World
from tests.doubles.resealing import content_of

OFTEN = ("put", "read", "repair", "push", "reseal", "lose")
SELDOM = (
    "delete",
    "undelete",
    "doom",
    "purge",
    "hold",
    "adopt",
    "scrub",
    "restore",
    "rotate",
    "retire",
)
DOINGS = (*OFTEN, *OFTEN, "put", *SELDOM, "reap", "promote", "wait", "age")
ROUNDS = 4
AT_ONCE = 12
FAULTS = 0.03
LEAVES, SOON = 0.3, 0.15  # how often somebody is cancelled, and within which seconds


@pytest.fixture
async def catalogs(url: str) -> AsyncIterator[list[SqlCatalog]]:
    """Give two catalogs that share the database, and a clock of their own."""
    clock = Ticking()
    opened = [await open_catalog(url, patience=PATIENCE, clock=clock) for _ in range(2)]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield opened
    for each in opened:
        await each.close()


async def test_whatever_everybody_does_at_once(catalogs: list[SqlCatalog]) -> None:
    async with Background() as background:
        world = World(catalogs, background, seed=7)
        await world.begin()
        for _ in range(ROUNDS):
            await rush(world)
            await background.settle()
            world.truth.age()
            assert await mistaken(world) == []
            await everything_is_readable(world)
        for _ in range(4):
            await calm(world)
            await background.settle()
        world.truth.harmed.clear()
        await everything_is_readable(world)
        await everything_is_right(world)


async def rush(world: World) -> None:
    """Let many do something at once."""
    faults(world, FAULTS)
    doings = [world._dice.choice(DOINGS) for _ in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        for what in doings:
            doing = group.create_task(_do(world, what), name=what)
            if world._dice.random() < LEAVES:
                group.create_task(_cancel(doing, world._dice.random() * SOON))
    faults(world, 0.0)


async def _cancel(doing: asyncio.Task[None], after: float) -> None:
    await asyncio.sleep(after)
    doing.cancel()


async def _do(world: World, what: str) -> None:
    for _ in range(world._dice.randrange(8)):
        await asyncio.sleep(0)
    try:
        await getattr(world, what)()
    except REFUSED:
        return


def faults(world: World, often: float) -> None:
    """Let stores fail so often."""
    for store in world.stores:
        store.faults = often


async def calm(world: World) -> None:
    """Have everything done that is due, and that was left behind."""
    world._clock.now += 3 * HOUR
    world._keys.behind.clear()
    process = world.processes[0]
    for each in world.processes:  # each looks at what it is in doubt about
        await each.repairer.repair("west")
        await each.placing.refresh()
    if (await process.catalog.bin.retention(world.tenant)).hold is not None:
        await world.hold()
    for target in process.stores:
        await process.list_and_scrub(target)
        await process.repairer.adopt(target)
        await process.repairer.repair(target)
        await process.tool.pushing.shift(target)
    await process.purge()
    await process.reap()


async def everything_is_readable(world: World) -> None:
    """Read all that was acknowledged, but what may be gone."""
    process = world.processes[0]
    for version, content in world.truth.stored.items():
        try:
            found = await process.catalog.by_version(world.tenant, version)
        except NotFound:
            assert world.truth.may_lack(version), version
        else:
            assert await content_of(process.bench, found) == content


async def mistaken(world: World) -> list[tuple[str, ...]]:
    """Return the copies that the catalog takes for whole and that are not, but those that were harmed.

    So are those under an older KEK than their version, of which no row of a stale copy knows.
    """
    process, wrong = world.processes[0], list[tuple[str, ...]]()
    rows = await process.catalog._database.read(lambda c: c.execute(select(tables.stale)).all())
    stale = {(row.version, row.target): row.keks.split() for row in rows}
    for target in process.targets:
        for held in await process.catalog.replicas.held(target.name, limit=1000):
            version, harmed = held.version, (held.version.blob, target.name) in world.truth.harmed
            if held.state is not ReplicaState.STORED or harmed:
                continue
            try:
                under = await check_replica(target.store, version)
            except GatewayError as error:
                wrong.append((version.id, target.name, str(error)))
            else:
                if under.kek not in {version.kek, *stale.get((version.id, target.name), [])}:
                    wrong.append((version.id, target.name, under.kek, version.kek))
    return wrong


async def everything_is_right(world: World) -> None:
    """Find every copy there, under its version's KEK, and nothing that is nobody's."""
    process = world.processes[0]
    for target in process.targets:
        for held in await process.catalog.replicas.held(target.name, limit=1000):
            under = await check_replica(target.store, held.version)
            assert (held.state, under.kek) == (ReplicaState.STORED, held.version.kek)
    for store in world.stores:
        blobs = {key.split("/")[2] for key in store.keys}
        assert blobs <= await process.catalog.known(sorted(blobs))
        assert not store.open_uploads
    assert not any(use.stale for use in await process.catalog.wraps.uses(world.tenant))
