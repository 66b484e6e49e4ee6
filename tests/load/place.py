"""A gateway under load: the stack with a gateway that can be counted from outside.

What it holds is asked of the kernel (memory, descriptors, sockets, bytes read), of its own figures
(requests running) and of its event loop (tasks), never of the code under test.
"""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import psutil

from tests.servers.daemon import Daemon
from tests.stack import memory
from tests.stack.client import Client
from tests.stack.stack import Stack

_RUNNING = re.compile(r"^sealgate_http_requests_running (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a gateway holds at one moment."""

    tasks: int
    descriptors: int  # besides those of the catalog, whose connections are pooled
    clients: int  # connections that clients have to it
    memory: int


class Place(Stack):
    """A stack whose gateway is started by `launch`."""

    fault: ClassVar[str] = "none"
    watched = False  # what it costs is measured here

    @property
    def pid(self) -> int:
        """The gateway's process."""
        return self.gateway.pid

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return int(self.url.rpartition(":")[2])

    def _daemon(self, package: str, live: str) -> Daemon:
        daemon = super()._daemon(package, live)
        if package == "gateway":
            own = ["tests.load.launch", str(self.home / "census"), self.fault]
            daemon._argv[2:3] = own
        return daemon

    async def holdings(self) -> Holdings:
        """Count what the gateway holds now."""
        process = psutil.Process(self.pid)
        connections = process.net_connections("tcp")
        return Holdings(
            tasks=await self._tasks(),
            descriptors=sum(self._name() not in each for each in self._open()),
            clients=sum(c.laddr.port == self.port and bool(c.raddr) for c in connections),
            memory=self.memory(),
        )

    def memory(self) -> int:
        """Return the gateway's resident memory."""
        return memory.resident(self.pid)

    def bytes_read(self) -> int:
        """Return the bytes that the gateway has read by system calls, from files and sockets."""
        text = Path(f"/proc/{self.pid}/io").read_text()
        return int(text.split("rchar: ")[1].split()[0])

    async def running(self) -> int:
        """Return how many requests the gateway says it serves, besides this question."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            found = _RUNNING.search(await answer.text())
        assert found is not None
        return int(found[1]) - 1

    def uploads(self) -> int:
        """Count uploads in the catalog that are under way or not cleaned up."""
        place = self.catalog.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(place, timeout=60)) as database:
            (count,) = database.execute("select count(*) from uploads").fetchone()
        return int(count)

    def _name(self) -> str:
        return Path(self.catalog.removeprefix("sqlite:///")).name

    def _open(self) -> Iterator[str]:
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(link.readlink())

    async def _tasks(self) -> int:
        census = self.home / "census"
        census.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        await eventually(census.exists)
        return int(census.read_text())

    @contextlib.asynccontextmanager
    async def tenant(self, token: str) -> AsyncIterator[tuple[Client, str]]:
        """Give a client, and the path above the attachments of a fresh tenant."""
        async with Client(self.url, token) as client:
            yield client, f"/v1/tenants/{await client.create_tenant()}/attachments"


class UnawaitedPlace(Place):
    """The same with the mutation: a download that does not wait for its writes."""

    fault: ClassVar[str] = "unawaited"


async def eventually(holds: Callable[[], object], within: float = 60.0) -> None:
    """Return once `holds()` is true. Raises AssertionError when it does not get so."""
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, "it did not come to this in time"
        await asyncio.sleep(0.05)


async def quiet(place: Place, before: Holdings, *, spare: int = 24) -> Holdings:
    """Wait until the gateway holds no more than `before`; return what it holds. Fails if it does not.

    `spare` descriptors may have come: connections to the key service and the stores that are kept for a
    while. A leak in any of these tests would be of more.
    """
    until = time.monotonic() + 60
    while True:
        now = await place.holdings()
        calm = now.clients <= before.clients and now.tasks <= before.tasks
        if calm and now.descriptors <= before.descriptors + spare and not await place.running():
            return now
        assert time.monotonic() < until, f"left behind: {now}, before: {before}"
        await asyncio.sleep(0.1)
