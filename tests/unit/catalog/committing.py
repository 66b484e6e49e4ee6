"""A program to be killed: commits uploads as fast as it can and prints each after its answer."""

import asyncio
import sys

from gateway.catalog import open_catalog
from gateway.model import Tenant, new_id, now
from tests.contracts.catalog.samples import put


async def main() -> None:
    """Commit until killed; each line is a tenant, a reference and a version."""
    catalog = await open_catalog(sys.argv[1])
    tenant = new_id()
    await catalog.add_tenant(Tenant(tenant, "standard", now()))

    async def worker(name: str) -> None:
        for number in range(1_000_000):
            reference = f"{name}/{number}"
            version = await put(catalog, tenant, reference)
            sys.stdout.write(f"{tenant} {reference} {version.id}\n")
            sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(worker(name))


if __name__ == "__main__":
    asyncio.run(main())
