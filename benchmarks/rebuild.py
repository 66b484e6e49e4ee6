"""`python -m benchmarks.rebuild`: how fast a lost catalog comes back from a folder, on SQLite.

Small inline attachments lie in a folder store; the keys are in memory, so that the gateway's part is
timed: listing, reading, proving and inserting. Then the catalog is copied to that store, and the copy is
loaded into an empty one. Prints versions a second, by the clock and by CPU time.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from envelope.context import Context, Purpose
from envelope.envelope import Attributes, Core, Envelope, Wrap, encode, seal_attributes
from envelope.segment import SegmentSealer
from gateway.catalog import migrate, open_catalog
from gateway.flow.buffers import Pool
from gateway.flow.pump import PumpSettings
from gateway.model import envelope_key, microseconds, new_id, now
from gateway.pacing.background import Background
from gateway.recovery.catalog_backup import CatalogBackups
from gateway.recovery.rebuild import Rebuild
from gateway.stores.folder import FolderStore
from gateway.targets.quorum import Role, Target
from keyservice.wire import DataKey
from tests.doubles.keys import MemoryKeys

T = TypeVar("T")
MiB = 1024 * 1024


async def sealed(keys: MemoryKeys, tenant: str, number: int) -> bytes:
    """Return the envelope of a small attachment, its body inside."""
    context = Context(tenant, new_id(), new_id())
    bound = [context.encode(Purpose.DEK)]
    (key,) = await keys.data_keys(tenant, bound, reason="", request_id="")
    assert isinstance(key, DataKey)
    sealer = SegmentSealer(key.dek, context)
    body = sealer.update(bytes(200)) + sealer.finalize()
    core = Core(context, microseconds(now()), (sealer.segment,))
    attributes = Attributes("report.pdf", "application/pdf", f"reports/{number}", {}, {})
    wraps = (Wrap(key.kek, key.wrapped, core.created),)
    return encode(Envelope(core, seal_attributes(key.dek, core, attributes), wraps, body))


async def timed(what: str, count: int, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and print its rate."""
    began, used = time.monotonic(), time.process_time()
    done = await work()
    clock, cpu = time.monotonic() - began, time.process_time() - used
    print(f"{what:<22} {count / clock:8.0f}/s by the clock {count / cpu:8.0f}/s of CPU")
    return done


async def run(home: Path, count: int) -> None:
    """Fill a folder, lose the catalog, and bring it back."""
    keys, tenant, folder = MemoryKeys(), new_id(), home / "objects"
    await keys.create_tenant(tenant)
    for number in range(count):
        path = folder / envelope_key(tenant, new_id())
        await asyncio.to_thread(path.parent.mkdir, parents=True)
        await asyncio.to_thread(path.write_bytes, await sealed(keys, tenant, number))
    catalogs = []
    for name in ("rebuilt", "restored"):
        url = f"sqlite:///{home / name}.db"
        await migrate(url)
        catalogs.append(await open_catalog(url, patience=600.0))
    rebuilt, restored = catalogs
    target = Target("east", Role.BACKUP, FolderStore(folder))
    async with Background() as background:
        backups = CatalogBackups(
            rebuilt.dumps,
            keys,
            [target],
            pool=Pool(8 * MiB, 512 * MiB),
            background=background,
            settings=PumpSettings(),
        )
        rebuild = Rebuild(rebuilt, rebuilt.recovery, rebuilt.runs, keys, backups)
        report = await timed("rebuild", count, lambda: rebuild.run(target))
        assert (report.added, report.clean) == (count, True)
        await timed("copy of the catalog", count, backups.make)
        copy = await backups.newest(target)
        assert copy is not None
        over = backups.over(restored.dumps)
        await timed("restore of the copy", count, lambda: over.restore(target, copy))
    for catalog in catalogs:
        await catalog.close()
    await target.store.close()


def main() -> None:
    """Read the size, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="attachments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), options.count))


if __name__ == "__main__":
    main()
