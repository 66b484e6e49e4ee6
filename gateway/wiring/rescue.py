"""Wires what saves the catalog and brings it back: its copies, the rebuild, and the drills.

A part of the composition root: with `gateway.wiring.app` it knows adapters and settings.
"""

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.flow.buffers import Pool
from gateway.flow.pump import PumpSettings
from gateway.keys.data_keys import KeyService
from gateway.pacing.background import Background
from gateway.pacing.rate import Rate
from gateway.recovery.catalog_backup import CatalogBackups
from gateway.recovery.drill import Drill
from gateway.recovery.rebuild import Rebuild
from gateway.recovery.trial import Scratch
from gateway.settings.config import Settings
from gateway.stores.folder import FolderStore
from gateway.targets.quorum import Target

PATIENCE = 600.0
PREFIX = "sealgate-drill-"
STALE = 7 * 86400.0  # seconds: longer than any drill takes


@dataclass(frozen=True, slots=True)
class Rescue:
    """The use cases around a lost catalog."""

    backups: CatalogBackups
    rebuild: Rebuild
    drill: Drill


def rescue(
    settings: Settings,
    catalog: SqlCatalog,
    keys: KeyService,
    targets: tuple[Target, ...],
    background: Background,
) -> Rescue:
    """Wire them over what is open."""
    limits, drill = settings.limits, settings.drill
    backups = CatalogBackups(
        catalog.dumps,
        keys,
        targets,
        pool=Pool(limits.part_size, limits.parts_memory),
        background=background,
        settings=PumpSettings(part_size=limits.part_size, max_size=1 << 50),
        keep=settings.catalog_backup.keep,
    )
    return Rescue(
        backups,
        Rebuild(catalog, catalog.recovery, catalog.runs, keys, backups),
        Drill(
            catalog.replicas,
            catalog.runs,
            keys,
            backups,
            scratch=_scratch(drill.folder),
            rate=Rate(drill.bytes_per_second),
            sample=drill.sample,
            part_size=limits.part_size,
        ),
    )


def _scratch(parent: Path | None) -> Callable[[], AbstractAsyncContextManager[Scratch]]:
    """Return what makes an empty catalog and an empty store in a folder of their own, for us alone."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Scratch]:
        folder = await asyncio.to_thread(_folder, parent)
        objects = folder / "objects"
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
            await asyncio.to_thread(objects.mkdir)
            url = f"sqlite:///{folder / 'catalog.db'}"
            await migrate(url)
            catalog = await open_catalog(url, patience=PATIENCE)
            stack.push_async_callback(catalog.close)
            store = FolderStore(objects, name="scratch")
            stack.push_async_callback(store.close)
            yield Scratch(catalog, catalog.recovery, catalog.dumps, catalog.runs, store)

    return opened


def _folder(parent: Path | None) -> Path:
    """Make a new folder, and remove what drills that were killed left behind long ago."""
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    for left in made.parent.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            found = left.lstat()
            old = time.time() - found.st_mtime > STALE
            if old and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)
    return made
