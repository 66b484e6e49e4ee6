"""Servers of a site die at bad moments: what was acknowledged stays, and what is at risk is named."""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.faults.proxy.faulty_wire import Fault, FaultyWire, Kind
from tests.faults.sites.site import Site, contents
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client, MiB
from tests.stack.stack import Bucket, Stack

Record = Callable[[str, object], None]
UPLOADS = 200
DOWNLOADS = 50
SIZES = (0, 300, 2_000, 70_000, 5_000, 20_000, 200_000, 1_500)
LARGE = 12 * MiB


class Servers:
    """The primary and a backup on servers that may be killed, another backup behind a wire.

    To be started in the main thread: a server dies with the thread that started it, and those of a test
    end with the test.
    """

    def __init__(self, own: Callable[[], Versitygw], wire: FaultyWire) -> None:
        self.primary, self.east, self.wire = own(), own(), wire
        self.west = wire.server.new_bucket()


@pytest.fixture(scope="module")
def servers(own_s3: Callable[[], Versitygw], s3: Versitygw) -> Iterator[Servers]:
    """Start the S3 servers of the site."""
    with FaultyWire(s3) as wire:
        yield Servers(own_s3, wire)


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a gateway over them."""
    home = tmp_path_factory.mktemp("site")
    running = Stack(
        home / "stack",
        targets={
            "primary": Bucket(servers.primary, servers.primary.new_bucket()),
            "east": Bucket(servers.east, servers.east.new_bucket()),
            "west": Bucket(servers.wire, servers.west),
        },
        catalog=f"sqlite:///{home / 'catalog.db'}",
        extra={
            # The primary is slow under all its readers: they shall not leave it before it dies.
            "limits": {
                "backup_patience": 0.2,
                "inline": 1024,
                "hedge_after": 0,
                "first_byte": 60,
                "silence": 60,
            },
            "failover": {"refresh": 0.2},
            "repair": {"lease": 5.0, "pause": 0.2},
            **{quiet: {"enabled": False} for quiet in ("catalog_backup", "drill", "scrub")},
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def site(stack: Stack) -> Site:
    """Give a site with a tenant of the test's own."""
    made = Site(stack)
    await made.open()
    return made


@pytest.mark.timeout(300)
async def test_a_backup_that_dies_under_200_uploads_converges(
    site: Site, servers: Servers, record_property: Record
) -> None:
    async with site.client() as client, site.worker():
        async with asyncio.TaskGroup() as group:
            uploads = group.create_task(site.put_all(client, contents(UPLOADS, SIZES, "during")))
            while len(site.sent) < UPLOADS // 4:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.01)
            await asyncio.to_thread(servers.east.kill)
            assert not uploads.done()
        assert len(site.sent) == UPLOADS
        told = await site.command("repair", "--dry-run", "--json", code=3)
        missed = told["targets"]["east"]["pending"]
        assert UPLOADS // 2 < missed <= UPLOADS

        began = time.monotonic()
        servers.east.start()
        await site.caught_up("east")
        seconds = round(time.monotonic() - began, 2)

        record_property("versions that the backup missed", missed)
        record_property("seconds to converge", seconds)
        figure = f"{missed} missed versions converged in {seconds} s"
        await site.caught_up("west")  # which may have been slow at times
        assert await site.whole() == 3 * UPLOADS, figure
        assert await site.differing(client) == [], figure


async def nothing_behind(site: Site) -> None:
    """Bring the backups what they were let go for: on a busy machine they may be slow at times."""
    await site.command("repair", "--until-done", "--json")


class Reader:
    """One download that is under way when the primary dies; the longest it waited for a piece."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.pause = 0.0
        self.digest = ""

    async def read(self, client: aiohttp.ClientSession, path: str, dead: asyncio.Event) -> None:
        """Take a little, wait for the death, and take the rest."""
        running = hashlib.sha256()
        async with client.get(path) as answer:
            assert answer.status == 200
            running.update(await answer.content.readexactly(64 * 1024))
            self.begun.set()
            await dead.wait()
            asked = time.monotonic()
            async for piece in answer.content.iter_any():
                self.pause = max(self.pause, time.monotonic() - asked)
                running.update(piece)
                asked = time.monotonic()
        self.digest = running.hexdigest()


def _small_window(address: Any) -> socket.socket:
    """Make a socket into which little fits, so that a download is not over before it is read."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    return made


@asynccontextmanager
async def slow_client(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client whose connections hold little."""
    async with aiohttp.ClientSession(
        site.stack.url,
        headers={"Authorization": f"Bearer {site.token}"},
        connector=aiohttp.TCPConnector(limit=0, socket_factory=_small_window),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=100),
    ) as session:
        yield session


def failed_reads(metrics: str) -> float:
    """Sum up the reads that the primary failed."""
    name = 'sealgate_replica_reads_failed_total{reason="unavailable",target="primary"} '
    return sum(float(line[len(name) :]) for line in metrics.splitlines() if line.startswith(name))


@pytest.mark.timeout(300)
async def test_the_primary_dies_under_50_downloads(
    site: Site, servers: Servers, record_property: Record
) -> None:
    async with site.client() as client, slow_client(site) as slow:
        await site.put_all(client, contents(5, (LARGE,), "large"))
        await nothing_behind(site)
        assert await site.differing(client) == []  # and so their keys are at hand
        async with client.request("GET", "/metrics") as answer:
            before = failed_reads(await answer.text())
        readers = {f"large-{n % 5}/{n}": Reader() for n in range(DOWNLOADS)}
        dead = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                for name, reader in readers.items():
                    path = site.path(name.partition("/")[0])
                    group.create_task(reader.read(slow, path, dead))
                for reader in readers.values():
                    await reader.begun.wait()
                await asyncio.to_thread(servers.primary.kill)
                dead.set()
            async with client.request("GET", "/metrics") as answer:
                moved = failed_reads(await answer.text()) - before
        finally:
            if not servers.primary.running:
                servers.primary.start()

    pause = round(max(reader.pause for reader in readers.values()), 3)
    record_property("downloads that went on elsewhere", int(moved))
    record_property("longest pause of a reader, seconds", pause)
    wrong = [n for n, r in readers.items() if r.digest != site.sent[n.partition("/")[0]]]
    told = f"{moved:.0f} of {DOWNLOADS} went on elsewhere, the longest pause was {pause} s"
    assert wrong == [], told
    assert moved >= DOWNLOADS // 5, told  # of some the kernel may hold all already


async def first_without_backups(client: Client, path: str) -> str:
    """Store until it is acknowledged; return the version."""
    async with asyncio.timeout(60):
        while True:
            async with client.request("PUT", path, data=bytes(5_000)) as answer:
                if answer.status == 201:
                    return str((await answer.json())["version"])
            await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
async def test_a_primary_that_dies_while_the_backups_are_behind_names_what_is_at_risk(
    site: Site, servers: Servers, record_property: Record
) -> None:
    await site.command("tenant", "quorum", site.tenant, "primary")
    async with site.client() as client:
        await site.put_all(client, contents(10, (5_000,), "safe"))
        await nothing_behind(site)
        # Gateways follow a tenant's policy after a moment; then the backups take nothing more.
        await asyncio.to_thread(servers.east.kill)
        refusing = Fault(Kind.REFUSED, bucket=servers.west, method="PUT")
        with servers.wire.broken(refusing):
            site.versions["first"] = await first_without_backups(client, site.path("first"))
            await site.put_all(client, contents(12, (5_000, 60_000), "behind"))
            assert await site.put(client, "in the catalog", b"small") == ["primary"]
        assert refusing.hits
        expected = {
            version
            for reference, version in site.versions.items()
            if reference.startswith(("first", "behind"))
        }
        servers.east.start()
        await asyncio.to_thread(servers.primary.kill)
        try:
            told = await site.command("failover", "status", "--json", code=3)
            at_risk = {each["version"] for each in told["at_risk"]}
            record_property("versions at risk", len(at_risk))
            assert at_risk == expected, f"{len(at_risk)} named, {len(expected)} at risk"
            refused = await site.command("failover", "promote", "east", "--yes", code=1)
            assert f"{len(expected)} versions are held only by" in refused["text"]
            promoted = await site.command(
                "failover", "promote", "east", "--yes", "--accept-loss", "--json", code=3
            )
            assert {each["version"] for each in promoted["at_risk"]} == expected
            safe = [reference for reference in site.sent if reference.startswith("safe")]
            assert await site.differing(client, [*safe, "in the catalog"]) == []
            async with client.request("GET", site.path("behind-0")) as answer:
                assert answer.status == 503
        finally:
            servers.primary.start()
        await site.command("failover", "demote", "--wait", "--timeout", "200", "--yes")
        await site.command("repair", "--until-done", "--json")
        assert (await site.command("failover", "status", "--json"))["at_risk"] == []
        assert await site.differing(client) == []
