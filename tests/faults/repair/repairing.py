"""A repairer to be killed: for every line on standard input it forks one, and prints its process id.

Forking spares each of them the import of the gateway. A line names targets.
"""

import asyncio
import os
import sys
from pathlib import Path

import structlog

from gateway.catalog import open_catalog
from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.repairer import Repairer, RepairSettings
from gateway.stores.folder import FolderStore
from gateway.targets.quorum import Role, Target

NAMES = ("primary", "east", "west")
PART = 64 * 1024
LEASE = 0.5  # seconds: what a killed one held is soon due again


async def repair(home: Path, rate: float, names: list[str], *, lease: float = LEASE) -> None:
    """Repair some targets of a site once."""
    catalog = await open_catalog(f"sqlite:///{home}/catalog.db")
    stores = {name: FolderStore(home / name, name=name) for name in NAMES}
    copier = Copier(stores, part_size=PART, parallel=2, rate=Rate(rate, burst=0.02))
    targets = [
        Target(name, Role.PRIMARY if name == "primary" else Role.BACKUP, store)
        for name, store in stores.items()
    ]
    repairer = Repairer(
        catalog.replicas, copier, targets, settings=RepairSettings(parallel=3, lease=lease)
    )
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(repairer.repair(name))
    for store in stores.values():
        await store.close()
    await catalog.close()


def main() -> None:
    """Fork a repairer for each line, and wait for its end."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    home, rate = Path(sys.argv[1]), float(sys.argv[2])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(repair(home, rate, line.split()))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
