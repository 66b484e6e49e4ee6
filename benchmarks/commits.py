"""`python -m benchmarks.commits`: whether uploads to PostgreSQL gain by sharing transactions, as on SQLite.

The two writes of a PUT of 64 KiB, whose body travels in its envelope, 32 at once, on a durable server. In
turns: each in a transaction of its own, as the gateway does; all that wait in one, each in a savepoint, as
`gateway.catalog.group` does on SQLite; and the same without savepoints, which could not be used, since who
fails would take the others along, but tells what they cost.
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.catalog.clock import database_time
from gateway.catalog.database import Database
from gateway.model import Tenant, new_id, now
from tests.contracts.catalog.samples import ANY, STORED, new_upload, version_of
from tests.servers.postgres import Postgres, find_programs

LANES = 32
PUTS = 320  # a round
ROUNDS = 5
MOST = 64
BODY = 65536
T = TypeVar("T")
Work = Callable[[Connection], Any]


class Together:
    """A database whose writers share transactions, `lanes` of which run at once."""

    def __init__(self, database: Database, lanes: int, *, savepoints: bool) -> None:
        self._database = database
        self._free = lanes
        self._savepoints = savepoints
        self._waiting: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        """Read as before."""
        return getattr(self._database, name)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Share the next transaction."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        asyncio.get_running_loop().call_soon(self._next)
        return cast("T", await done)

    def _next(self) -> None:
        if self._free and self._waiting:
            self._free -= 1
            calls = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            task = asyncio.create_task(self._run(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, calls: list[tuple[Work, asyncio.Future[Any]]]) -> None:
        def everything(connection: Connection) -> list[Any]:
            results = []
            for work, _ in calls:
                with connection.begin_nested() if self._savepoints else nullcontext():
                    results.append(work(connection))
            return results

        for (_, done), result in zip(calls, await self._database.write(everything), strict=True):
            done.set_result(result)
        self._free += 1
        self._next()


async def puts(catalog: SqlCatalog, tenant: str) -> tuple[float, float]:
    """Return how many PUTs a second were written down, and milliseconds of CPU of this process for each."""
    left = iter(range(PUTS))

    async def lane() -> None:
        for _ in left:
            upload = new_upload(tenant)
            attachment = await catalog.begin(upload, new_id())
            version = replace(version_of(upload, attachment), inline=bytes(BODY))
            await catalog.commit(version, STORED, ANY, None)

    began, used = time.monotonic(), cpu()
    async with asyncio.TaskGroup() as lanes:
        for _ in range(LANES):
            lanes.create_task(lane())
    return PUTS / (time.monotonic() - began), (cpu() - used) / PUTS * 1000


def cpu() -> float:
    """Return the seconds of CPU that this process used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(url: str) -> None:
    """Measure in turns, and print medians."""
    await migrate(url)
    catalog = await open_catalog(url, patience=60.0)
    tenant = new_id()
    await catalog.add_tenant(Tenant(tenant, "standard", now()))
    database = catalog._database  # noqa: SLF001 - as the group on SQLite is below the catalog
    kinds: dict[str, Database] = {
        "apart": database,
        "together": cast("Database", Together(database, 1, savepoints=True)),
        "together, two at once": cast("Database", Together(database, 2, savepoints=True)),
        "together, without savepoints": cast("Database", Together(database, 1, savepoints=False)),
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, each in kinds.items():
            found[kind].append(await puts(SqlCatalog(each, database_time), tenant))
    base = statistics.median(rate for rate, _ in found["apart"])
    for kind, rounds in found.items():
        rate, used = (statistics.median(column) for column in zip(*rounds, strict=True))
        every = ", ".join(f"{each:.0f}" for each, _ in rounds)
        print(
            f"{kind:<30} {rate:6.0f} PUTs/s  {rate / base:5.2f}  CPU {used:5.2f} ms each  ({every})"
        )
    await catalog.close()


def main() -> None:
    """Start a server, and measure."""
    programs = find_programs()
    if programs is None:
        sys.exit("no PostgreSQL here")
    print(datetime.now(UTC).isoformat(timespec="seconds"))
    with tempfile.TemporaryDirectory(prefix="sealgate-bench-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(programs, Path(folder) / "postgres", durable=True)
        server.start()
        try:
            asyncio.run(measure(server.new_database()))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
