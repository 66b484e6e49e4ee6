"""kill -9 of a repairer at random moments: what was good stays good, and the next one converges."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import ReplicaState, Tenant, Version, new_id, now
from gateway.ports import Finding
from gateway.repair.verify import check_replica
from gateway.stores.folder import FolderStore
from tests.doubles.blobs import Blob, commit, flipped, overwrite, piece
from tests.faults.repair.repairing import NAMES, PART, repair

ROOT = Path(__file__).resolve().parents[3]
SIZES = (50, 5000, PART, 3 * PART + 77, 5 * PART)
RATE = 2_000_000.0  # bytes a second, so that a kill falls into the middle of a copy


class Site:
    """Three folders and a catalog, of which the primary always holds everything."""

    def __init__(self, home: Path, catalog: SqlCatalog, rng: random.Random) -> None:
        self.home = home
        self.catalog = catalog
        self.rng = rng
        self.stores = {name: FolderStore(home / name, name=name) for name in NAMES}
        self.tenant = new_id()
        self.blobs: list[Blob] = []

    async def add(self) -> None:
        """Store one more version, which one of the backups missed: sometimes it has half of it."""
        size = self.rng.choice(SIZES)
        held = self.rng.choice(("east", "west"))
        other = "west" if held == "east" else "east"
        content = self.rng.randbytes(size)
        blob = await commit(
            self.catalog,
            self.tenant,
            content,
            dict(self.stores),
            on=["primary", held],
            inline=size < 100,
        )
        self.blobs.append(blob)
        if size >= 100 and self.rng.random() < 0.5:
            cut = self.rng.choice((1, len(blob.body) // 2, len(blob.body)))
            await self.stores[other].put(blob.body_key, piece(blob.body[:cut]))

    async def damage(self) -> None:
        """Flip a bit of a good replica on a backup, and report it as a scrub would."""
        blob, name = self.rng.choice(self.blobs), self.rng.choice(("east", "west"))
        store = self.stores[name]
        try:
            await check_replica(store, blob.version)
        except Exception:  # noqa: BLE001 - it is a gap already
            return
        key, data = blob.envelope_key, blob.sealed
        if blob.version.inline is None and self.rng.random() < 0.7:
            key, data = blob.body_key, blob.body
        await overwrite(store, key, flipped(data, self.rng.randrange(8 * len(data))))
        await self.catalog.replicas.report(
            [Finding(blob.version.id, name, ReplicaState.DAMAGED, "flipped")]
        )

    async def states(self, version: Version) -> set[ReplicaState]:
        """Return what the catalog says of one version's replicas."""
        return set((await self.catalog.by_version(self.tenant, version.id)).replicas.values())


async def killed(site: Site, kills: int) -> int:
    """Start a repairer and kill it, again and again; return how many were still at work."""
    program = ["-m", "tests.faults.repair.repairing", str(site.home), str(RATE)]
    children = await asyncio.create_subprocess_exec(
        sys.executable, *program, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=ROOT
    )
    assert children.stdin is not None
    assert children.stdout is not None
    cut = 0
    for _ in range(kills):
        for _ in range(2):
            await site.add()
            await site.damage()
        children.stdin.write(b"east west\n")
        child = int(await children.stdout.readline())
        await asyncio.sleep(site.rng.uniform(0.02, 0.4))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            cut += 1
    children.stdin.close()
    assert await children.wait() == 0
    return cut


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)]
)
async def test_killed_anywhere_the_next_run_converges(
    kills: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    url, rng = f"sqlite:///{tmp_path}/catalog.db", random.Random(kills)
    await migrate(url)
    for name in NAMES:
        (tmp_path / name).mkdir()
    catalog = await open_catalog(url)
    site = Site(tmp_path, catalog, rng)
    await catalog.add_tenant(Tenant(site.tenant, "standard", now()))
    for _ in range(12):
        await site.add()

    cut = await killed(site, kills)

    async with asyncio.timeout(300):
        while any(lag.objects for lag in await catalog.replicas.lag(NAMES)):
            await repair(tmp_path, 0, list(NAMES), lease=60.0)
            await asyncio.sleep(0.1)
    for blob in site.blobs:
        assert await site.states(blob.version) == {ReplicaState.STORED}
        for store in site.stores.values():
            await check_replica(store, blob.version)
    record_property("kills", kills)
    record_property("killed in the middle", cut)
    assert cut > kills // 2
    for store in site.stores.values():
        await store.close()
    await catalog.close()
