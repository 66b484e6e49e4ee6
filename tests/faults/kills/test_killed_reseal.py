"""kill -9 of a reseal, again and again: everything stays readable, and in the end nothing is left over."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from envelope.envelope import decode
from gateway.catalog import open_catalog
from gateway.cli.reseal import KIND
from gateway.duties.purger import Purger
from gateway.model import microseconds, now
from tests.faults.kills.quick_reseal import begin
from tests.faults.kills.test_killed_rotation import Site, site
from tests.stack.forks import cut_off

__all__ = ["site"]


def reseal_and_kill(site: Site, wait: float, *words: str, patience: float = 1.0) -> int | None:
    """Begin to reseal and kill it after a while; return its exit code if it was faster."""
    config = site.stack.home / "gateway.toml"
    return cut_off(begin(config, "--tenant", site.tenant, *words, patience=patience), wait)


async def blobs(site: Site) -> set[str]:
    """Return the tenant's blobs that a target holds some of."""
    return {
        stat.key.split("/")[2]
        for target in site.core.targets
        async for stat in target.store.list(f"t/{site.tenant}/")
    }


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_a_reseal_that_is_killed_anywhere_goes_on(
    kills: int, site: Site, record_property: Callable[[str, object], None]
) -> None:
    rng, began = random.Random(kills), now()
    whole = 60.0
    for _ in range(2):  # the first one waits for the imports that all of them share
        whole = await to_the_end(site)
    killed = middle = ended = 0
    # On a busy machine many may be killed before they have begun.
    while killed < kills or (middle <= kills // 4 and killed < 10 * kills):
        code = await asyncio.to_thread(reseal_and_kill, site, rng.uniform(0.1, 0.9) * whole)
        await site.put(f"during {killed + ended}")
        if code is None:
            killed += 1
            (run,) = await site.core.runs.history(KIND, site.tenant, limit=1)
            middle += bool(run.cursor.partition(" ")[2])
        else:
            told = (site.stack.home / "reseal.err").read_text()
            assert code == 0 or "RunLost" in told or "another worker" in told, told
            ended += 1
        assert await site.unreadable() == []

    begun = now()
    await to_the_end(site, "--fresh")
    assert await site.unreadable() == []
    await only_what_belongs_there_is_left(site, begun)
    record_property("kills", killed)
    record_property("of them in the middle", middle)
    record_property("reseals that ended", ended + 3)
    record_property("seconds of one that is left alone", round(whole, 2))
    assert middle > kills // 4
    assert began < begun


async def to_the_end(site: Site, *words: str) -> float:
    """Reseal until all is done; return how many seconds the last try took.

    Its row is short-lived here, and on a busy machine one may lose it: so each holds it for longer.
    """
    for tries in range(20):
        began = time.monotonic()
        patience = min(2.0**tries, 32.0)
        code = await asyncio.to_thread(reseal_and_kill, site, 300.0, *words, patience=patience)
        if code == 0:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    raise AssertionError((site.stack.home / "reseal.err").read_text())


async def only_what_belongs_there_is_left(site: Site, begun: datetime) -> None:
    """Every version is under a new key; what killed ones wrote goes; what they replaced stays until due."""
    versions = [held.version for held in await site.core.replicas.held("primary", limit=10_000)]
    assert len(versions) == len(site.stored)
    assert all(decode(v.envelope).core.sealed >= microseconds(begun) for v in versions)
    assert await blobs(site) <= await site.core.catalog.known(sorted(await blobs(site)))

    later = datetime.now(UTC) + timedelta(days=2)
    catalog = await open_catalog(site.stack.catalog, clock=lambda _: later)
    try:
        purged = await Purger(catalog.bin, catalog.wraps, site.core.targets).run()
        assert (purged.waiting, purged.gone) == (0, 0)
        assert await catalog.wraps.leftovers(1) == []
    finally:
        await catalog.close()
    left = await blobs(site)
    owned = await site.core.catalog.known(sorted(left))
    assert owned == left
    assert not await site.core.catalog.running(sorted(left))
    assert {version.blob for version in versions} <= left
    for target in site.core.targets:
        assert [each async for each in target.store.unfinished("t/")] == []
    assert await site.unreadable() == []
