"""kill -9 of a rotation, again and again: everything stays readable, and in the end nothing is left."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.attachments.uploads import Draft
from gateway.catalog import migrate
from gateway.rotation.keks import KIND
from gateway.settings.config import Settings, load
from gateway.wiring.core import Core, open_core
from tests.doubles.rotating import keks_on
from tests.faults.kills.quick_rotation import begin
from tests.stack.forks import cut_off
from tests.stack.stack import Stack

ATTACHMENTS = 32


@dataclass
class Site:
    """A gateway without HTTP over processes of the rest, and what it stored."""

    stack: Stack
    settings: Settings
    core: Core
    tenant: str
    stored: dict[str, bytes] = field(default_factory=dict)

    async def put(self, name: str) -> None:
        """Store an attachment; every other one travels in its envelope."""
        content = name.encode() * (3 if len(self.stored) % 2 else 1000)

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        await self.core.services.uploads.store(Draft(self.tenant, name), pieces())
        self.stored[name] = content

    async def unreadable(self) -> list[str]:
        """Read everything; name what does not come back as it was."""
        wrong = []
        for name, content in self.stored.items():
            found = await self.core.catalog.find(self.tenant, name)
            opened = await self.core.services.downloads.open(found, request_id="")
            async with aclosing(self.core.services.downloads.read(opened, 0, opened.size)) as read:
                if b"".join([bytes(piece) async for piece in read]) != content:
                    wrong.append(name)
        return wrong

    async def current(self) -> str:
        """Return the id of the KEK that is current."""
        keys = await self.core.keys.control.tenant(self.tenant)
        assert keys.current is not None
        return keys.current.id


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Fill a site whose caches forget at once."""
    stack = await asyncio.to_thread(
        Stack,
        tmp_path / "stack",
        targets={name: tmp_path / name for name in ("primary", "east")},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        top={"log_level": "error"},
        forget=0.1,
        extra={
            "keyservice": {"cache_ttl": 0.1},
            "limits": {"inline": 1024},
            "rotation": {"envelopes_per_second": 0, "requests_per_second": 0},
        },
    )
    await migrate(stack.catalog)
    await asyncio.to_thread(stack.keys.start)
    try:
        settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
        async with open_core(settings) as core:
            tenant = (await core.services.tenants.create()).id
            made = Site(stack, settings, core, tenant)
            for number in range(ATTACHMENTS):
                await made.put(f"report {number}")
            yield made
    finally:
        await asyncio.to_thread(stack.keys.stop)


def rotate_and_kill(site: Site, wait: float, *words: str, patience: float = 1.0) -> int | None:
    """Begin a rotation and kill it after a while; return its exit code if it was faster."""
    config = site.stack.home / "gateway.toml"
    return cut_off(begin(config, "--tenant", site.tenant, *words, patience=patience), wait)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_a_rotation_that_is_killed_anywhere_goes_on(
    kills: int, site: Site, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(kills)
    whole = 60.0
    for _ in range(2):  # the first one waits for the imports that all of them share
        whole = await to_the_end(site)
    killed = resumed = ended = 0
    # On a busy machine many may be killed before they have begun.
    while killed < kills or (resumed <= kills // 4 and killed < 10 * kills):
        before = await site.current()
        code = await asyncio.to_thread(rotate_and_kill, site, rng.uniform(0.1, 0.8) * whole)
        await site.put(f"during {killed + ended}")
        if code is None:
            killed += 1
            runs = await site.core.runs.history(KIND, site.tenant, limit=1)
            resumed += bool(runs and runs[0].cursor)
        else:
            told = (site.stack.home / "rotation.err").read_text()
            # 3: an envelope that a killed one was writing is leased to it still. On a busy machine one
            # may lose its row, which is short-lived here.
            assert code in {0, 3} or "RunLost" in told, told
            ended += 1
        assert await site.unreadable() == []
        after = await site.current()
        assert (after == before) or after.startswith(site.tenant)

    await to_the_end(site, "--finish")
    await asyncio.to_thread(site.stack.keys.stop)
    await asyncio.to_thread(site.stack.keys.start)
    await nothing_is_on_an_older_kek(site)
    record_property("kills", killed)
    record_property("of them with something begun", resumed)
    record_property("rotations that ended", ended + 2)
    record_property("seconds of one that is left alone", round(whole, 2))
    assert resumed > kills // 4


async def to_the_end(site: Site, *words: str) -> float:
    """Rotate until all is done; return how many seconds the last try took.

    What a killed one had leased waits, and on a busy machine one may lose its short-lived row:
    so each holds it for longer than the one before.
    """
    for tries in range(20):
        began = time.monotonic()
        patience = min(2.0**tries, 32.0)
        code = await asyncio.to_thread(rotate_and_kill, site, 300.0, *words, patience=patience)
        if code == 0:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    raise AssertionError((site.stack.home / "rotation.err").read_text())


async def nothing_is_on_an_older_kek(site: Site) -> None:
    """Not in the catalog, nor where the targets are asked; without the older KEKs all can be read."""
    current = await site.current()
    assert [use.kek for use in await site.core.wraps.uses(site.tenant)] == [current]
    for target in site.core.targets:
        found = await keks_on(target.store)
        mine = {key: keks for key, keks in found.items() if site.tenant in key}
        assert len(mine) == len(site.stored)
        assert set(mine.values()) == {frozenset({current})}
    keys = await site.core.keys.control.tenant(site.tenant)
    for kek in keys.keks:
        if kek.state == "retired":
            await site.core.keys.control.retire_kek(site.tenant, kek.id, reason="test")
    async with AsyncExitStack() as stack:
        fresh = await stack.enter_async_context(open_core(site.settings))
        again = Site(site.stack, site.settings, fresh, site.tenant, site.stored)
        assert await again.unreadable() == []
