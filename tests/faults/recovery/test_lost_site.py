"""The whole primary and the catalog are lost; everything comes back from one backup, on real servers."""

import asyncio
import hashlib
import io
import json
import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.catalog import migrate
from gateway.cli.root import cli
from gateway.wiring import app
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack, apart

NAMES = ("primary", "east", "west")
LOADED = app  # here, since a command would import it on its loop
SIZES = (0, 1, 4_000, 65_536, 65_537, 300_000, 9_000_000)


@dataclass
class Site:
    """A stack, and what an application has stored there."""

    stack: Stack
    catalog: Path
    tenant: str = ""
    stored: dict[str, str] = field(default_factory=dict)  # reference: SHA-256
    deleted: set[str] = field(default_factory=set)

    def path(self, reference: str) -> str:
        return f"/v1/tenants/{self.tenant}/attachments/{reference}"

    async def put(self, client: Client, reference: str, content: bytes) -> None:
        async with client.request("PUT", self.path(reference), data=io.BytesIO(content)) as answer:
            assert answer.status == 201, await answer.text()
            assert len((await answer.json())["stored"]) == 3
        self.stored[reference] = hashlib.sha256(content).hexdigest()

    async def fill(self, client: Client, prefix: str, count: int, rng: random.Random) -> None:
        for number in range(count):
            await self.put(client, f"{prefix}{number:02}", rng.randbytes(rng.choice(SIZES)))

    async def delete(self, client: Client, reference: str) -> None:
        async with client.request("DELETE", self.path(reference)) as answer:
            assert answer.status == 204, await answer.text()
        self.deleted.add(reference)

    async def digests(self, client: Client) -> dict[str, str]:
        """Read everything that is visible."""
        listed = await client.json("GET", f"/v1/tenants/{self.tenant}/attachments?limit=1000")
        references = [each["attachment"] for each in listed["attachments"]]
        return {each: await client.digest(self.path(each)) for each in references}

    def lose(self) -> None:
        """Lose the catalog and whatever the primary has."""
        for file in self.catalog.parent.glob(self.catalog.name + "*"):
            file.unlink()
        shutil.rmtree(self.primary, ignore_errors=True)

    @property
    def primary(self) -> Path:
        """Where the primary's objects are as files."""
        bucket = self.stack.targets["primary"]
        assert isinstance(bucket, Bucket)
        return bucket.folder / "t"

    def on_primary(self) -> int:
        """Count the primary's envelopes."""
        return len(list(self.primary.glob("*/*/envelope")))

    def command(self, *words: str) -> dict[str, Any]:
        """Run a command, in this process to spare the imports, and return its JSON."""
        config = {"SEALGATE_CONFIG": str(self.stack.home / "gateway.toml")}
        done = CliRunner().invoke(cli, [*words, "--json"], env=config)
        why = "".join(traceback.format_exception(done.exception))
        assert done.exit_code == 0, f"{' '.join(words)}: {done.output}\n{why}"
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def migrate(self) -> None:
        """Make a new catalog."""
        apart(lambda: migrate(self.stack.catalog))


@pytest.fixture
def site(s3: Versitygw, tmp_path: Path) -> Iterator[Site]:
    """Run a gateway over three buckets."""
    catalog = tmp_path / "catalog.db"
    stack = Stack(
        tmp_path / "stack",
        targets={name: Bucket(s3, s3.new_bucket()) for name in NAMES},
        catalog=f"sqlite:///{catalog}",
        extra={"quorum": {"policy": "all"}},
    )
    stack.start()
    yield Site(stack, catalog)
    stack.stop()


@pytest.mark.timeout(600)
async def test_a_lost_site_comes_back_from_one_backup(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    rng, stack = random.Random(5), site.stack
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        site.tenant = await client.create_tenant("business")
        await site.fill(client, "a", 30, rng)
        for number in range(5):
            await site.put(client, f"a{number:02}", rng.randbytes(1000))
        await site.delete(client, "a10")
        copied = await asyncio.to_thread(site.command, "backup", "catalog")
        assert sorted(copied["stored"]) == sorted(NAMES)
        await site.fill(client, "b", 10, rng)
        await site.put(client, "a20", b"later")
        await site.delete(client, "a21")  # which nobody but the lost catalog knew

    await asyncio.to_thread(stack.gateway.stop)
    await asyncio.to_thread(site.lose)
    began = time.monotonic()
    await asyncio.to_thread(site.migrate)
    rebuilt = await asyncio.to_thread(site.command, "rebuild-catalog", "--from", "east")
    rebuild_seconds = time.monotonic() - began
    await asyncio.to_thread(stack.gateway.start)
    async with Client(stack.url, token) as client:  # the token is in the copy of the catalog
        found = await site.digests(client)
        rto = time.monotonic() - began
    expected = {r: digest for r, digest in site.stored.items() if r != "a10"}
    assert found == expected
    assert rebuilt["backup"] == copied["taken"]
    assert (rebuilt["added"], rebuilt["refused"]) == (11, {})
    record_property("seconds to rebuild the catalog", round(rebuild_seconds, 2))
    record_property("RTO, seconds until everything was read", round(rto, 2))

    await asyncio.to_thread(stack.gateway.stop)
    await asyncio.to_thread(site.lose)
    await asyncio.to_thread(site.migrate)
    flags = ("rebuild-catalog", "--from", "west", "--ignore-backup")
    look = await asyncio.to_thread(site.command, *flags, "--dry-run")
    rebuilt = await asyncio.to_thread(site.command, *flags)
    assert look["added"] == rebuilt["added"] == rebuilt["envelopes"] == 46
    assert "tokens" in rebuilt["unknown"]
    await asyncio.to_thread(stack.gateway.start)
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        assert await site.digests(client) == site.stored  # what was deleted is back
        shown = await client.json("GET", f"/v1/tenants/{site.tenant}")
        assert shown["tier"] == "business"

    await asyncio.to_thread(site.command, "repair", "--until-done")
    assert await asyncio.to_thread(site.on_primary) == 46  # which was lost, and is back-filled

    drilled = await asyncio.to_thread(site.command, "drill", "--from", "west", "--all")
    (only,) = drilled["drills"]
    assert (only["good"], only["checked"], only["rpo_seconds"]) == (True, 46, 0.0)
    record_property("seconds of a full drill", only["rto_seconds"])
    assert await asyncio.to_thread(site.command, "drill", "--history") == drilled
