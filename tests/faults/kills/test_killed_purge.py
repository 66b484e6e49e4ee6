"""kill -9 of a purge, again and again: what is due goes in the end, and nothing else ever does."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import Precondition, Tenant, body_key, envelope_key, new_id, now
from gateway.stores.open import FolderSettings, open_store
from tests.contracts.catalog.samples import put
from tests.stack.forks import sealgate
from tests.unit.gateway.duties.test_reaper import piece

TARGETS = ("primary", "backup")
EACH = 25  # attachments that each run has to purge


def settings(home: Path) -> Path:
    """Write the settings of a gateway over two folders."""
    targets = "".join(
        f'[[targets]]\nname = "{name}"\nrole = "{name}"\nkind = "folder"\npath = "{home / name}"\n'
        for name in TARGETS
    )
    (home / "keys.token").write_text("0" * 64)
    path = home / "gateway.toml"
    path.write_text(
        f'[keyservice]\nurl = "unix://{home / "keys.sock"}"\ntoken_file = "{home / "keys.token"}"\n'
        f'[catalog]\nurl = "sqlite:///{home / "catalog.db"}"\n{targets}'
    )
    return path


def count(home: Path) -> int:
    """Count the objects on all targets."""
    # Not rglob: the purge takes folders away while this looks.
    return sum(len(files) for name in TARGETS for _, _, files in os.walk(home / name))


def purge_and_kill(config: Path, rng: random.Random) -> None:
    """Begin a purge, and kill it at some moment after its first deletion."""
    before = count(config.parent)
    process = sealgate(config, "trash", "empty")
    while process.is_alive() and count(config.parent) == before:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.03))
    process.kill()
    process.join()


def purge_to_the_end(config: Path) -> int | None:
    """Purge, and return the exit code."""
    process = sealgate(config, "trash", "empty")
    process.join()
    return process.exitcode


async def fill(catalog: SqlCatalog, home: Path, tenant: str, names: list[str]) -> list[str]:
    """Store attachments on both targets; return their blobs."""
    blobs = []
    for name in names:
        version = await put(catalog, tenant, name)
        blobs.append(version.blob)
        for target in TARGETS:
            store = open_store(FolderSettings(name=target, path=home / target))
            await store.put(body_key(tenant, version.blob), piece(b"body"))
            await store.put(envelope_key(tenant, version.blob), piece(b"envelope"))
            await store.close()
    return blobs


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_a_purge_that_is_killed_anywhere_is_finished_by_the_next(
    kills: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    config = settings(tmp_path)
    for name in TARGETS:
        (tmp_path / name).mkdir()
    url, rng = f"sqlite:///{tmp_path / 'catalog.db'}", random.Random(kills)
    await migrate(url)
    async with contextlib.AsyncExitStack() as stack:
        catalog = await open_catalog(url)
        stack.push_async_callback(catalog.close)
        tenant = new_id()
        await catalog.add_tenant(Tenant(tenant, "standard", now()))
        kept = await fill(catalog, tmp_path, tenant, ["kept one", "kept two"])
        run = unfinished = 0
        # On a busy machine most may have ended before they are killed.
        while run < kills or (unfinished <= kills // 4 and run < 10 * kills):
            names = [f"{run} {number}" for number in range(EACH)]
            await fill(catalog, tmp_path, tenant, names)
            for name in names:
                gone = await catalog.trash(tenant, name, Precondition())
                await catalog.bin.doom_now(tenant, gone.id)
            await asyncio.to_thread(purge_and_kill, config, rng)
            unfinished += bool(await catalog.bin.doomed(1))
            run += 1

        ended = await asyncio.to_thread(purge_to_the_end, config)

        assert ended == 0
        assert await catalog.bin.doomed(1) == []
        left = {path.parent.name for name in TARGETS for path in (tmp_path / name).rglob("body")}
        assert left == set(kept)
        assert count(tmp_path) == len(kept) * 2 * len(TARGETS)
        assert [found.attachment.reference for found in await catalog.list(tenant, "", None, 10)]
    record_property("kills", run)
    record_property("killed in the middle", unfinished)
    assert unfinished > kills // 4
