"""kill -9 of a rebuild, again and again: nothing half is ever readable, and the next run goes on."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.attachments.uploads import Draft
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.ports import RunState
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.faults.kills.quick_rebuild import begin
from tests.stack.forks import cut_off
from tests.stack.stack import Stack

BEFORE, AFTER = 60, 60  # attachments that the copy of the catalog knows, and later ones


@dataclass
class Lost:
    """A site whose catalog is lost, and what it said."""

    stack: Stack
    catalog: Path
    pristine: bytes
    expected: dict[str, str]  # reference: version
    copied: frozenset[str]

    @property
    def config(self) -> Path:
        return self.stack.home / "gateway.toml"

    def start_over(self) -> None:
        """Put a new catalog in place."""
        for file in self.catalog.parent.glob(self.catalog.name + "-*"):
            file.unlink()
        self.catalog.write_bytes(self.pristine)

    async def opened(self) -> SqlCatalog:
        return await open_catalog(self.stack.catalog, connections=1)


async def shown(catalog: SqlCatalog) -> dict[str, str]:
    """Return every version that can be read, by reference."""
    return {
        found.attachment.reference: found.version.id
        for tenant in await catalog.tenants(None, 10)
        for found in await catalog.list(tenant.id, "", None, 1000)
    }


async def small(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def fill(core: Core, tenant: str, names: list[str]) -> dict[str, str]:
    """Store small attachments; return their versions."""
    made = {}
    for name in names:
        receipt = await core.services.uploads.store(Draft(tenant, name), small(name.encode()))
        made[name] = receipt.version.id
    return made


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    """Fill a site, and lose its catalog."""
    catalog = tmp_path / "catalog.db"
    stack = await asyncio.to_thread(
        Stack,
        tmp_path / "stack",
        targets={name: tmp_path / name for name in ("primary", "east")},
        catalog=f"sqlite:///{catalog}",
        top={"log_level": "error"},
    )
    await migrate(stack.catalog)
    pristine = catalog.read_bytes()
    await asyncio.to_thread(stack.keys.start)
    try:
        settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
        async with open_core(settings) as core:
            tenant = (await core.services.tenants.create()).id
            known = await fill(core, tenant, [f"a{number}" for number in range(BEFORE)])
            await core.rescue.backups.make()
            later = await fill(core, tenant, [f"b{number}" for number in range(AFTER)])
            replaced = await fill(core, tenant, [f"a{number}" for number in range(5)])
        expected = {**known, **later, **replaced}
        yield Lost(stack, catalog, pristine, expected, frozenset(known.values()))
    finally:
        await asyncio.to_thread(stack.keys.stop)


def rebuild_and_kill(site: Lost, wait: float) -> int | None:
    """Begin a rebuild and kill it after a while; return its exit code if it was faster."""
    return cut_off(begin(site.config, "east"), wait)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_a_rebuild_that_is_killed_anywhere_goes_on(
    kills: int, lost: Lost, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(kills)
    for _ in range(2):  # the first one waits for the imports that all of them share
        await asyncio.to_thread(lost.start_over)
        began = time.monotonic()
        assert await asyncio.to_thread(rebuild_and_kill, lost, 300.0) == 0
        whole = time.monotonic() - began
    await asyncio.to_thread(lost.start_over)
    killed = resumed = rounds = 0
    while killed < kills:
        began = time.monotonic()
        code = await asyncio.to_thread(rebuild_and_kill, lost, rng.uniform(0.1, 0.9) * whole)
        async with AsyncExitStack() as stack:
            catalog = await lost.opened()
            stack.push_async_callback(catalog.close)
            seen = await shown(catalog)
            runs = await catalog.runs.history("rebuild")
        if code is None:
            killed += 1
            resumed += bool(runs) and runs[0].state is RunState.RUNNING and bool(runs[0].cursor)
            # Nothing, or the copy as it was, or everything.
            assert seen in ({}, lost.expected) or set(seen.values()) == lost.copied
            if seen != lost.expected or (runs and runs[0].state is RunState.RUNNING):
                continue
        else:
            assert code == 0, runs
            whole = min(whole, time.monotonic() - began)
        assert seen == lost.expected
        rounds += 1
        await asyncio.to_thread(lost.start_over)

    assert await asyncio.to_thread(rebuild_and_kill, lost, 300.0) == 0
    catalog = await lost.opened()
    assert await shown(catalog) == lost.expected
    await catalog.close()
    record_property("kills", killed)
    record_property("of them with something begun", resumed)
    record_property("rebuilds that ended", rounds + 3)
    record_property("seconds of one that is left alone", round(whole, 2))
