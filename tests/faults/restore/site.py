"""A stack with something in it, and what a restore needs around it: ways to lose things, and to look."""

import asyncio
import hashlib
import io
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import GatewayError
from gateway.model import Version, body_key, envelope_key
from gateway.repair.verify import check_replica
from gateway.settings.config import Settings, load
from gateway.wiring.core import open_core
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack

SIZES = (0, 10, 70_000, 200_000, 11_000_000)  # the last one in three parts


@dataclass(slots=True)
class Site:
    """A stack, the token that may do everything, and the digests of what was uploaded."""

    stack: Stack
    token: str
    tenants: list[str] = field(default_factory=list)
    digests: dict[str, dict[str, str]] = field(default_factory=dict)  # by tenant, by reference

    async def fill(self, *, tenants: int, sizes: tuple[int, ...] = SIZES, seed: int = 1) -> None:
        """Upload an attachment of each size for each of some new tenants."""
        rng = random.Random(seed)
        async with Client(self.stack.url, self.token) as client:
            for _ in range(tenants):
                tenant = await client.create_tenant()
                self.tenants.append(tenant)
                for number, size in enumerate(sizes):
                    content, reference = rng.randbytes(size), f"file-{number}"
                    name = f'attachment; filename="report {number}.bin"'
                    await client.json(
                        "PUT",
                        f"/v1/tenants/{tenant}/attachments/{reference}",
                        data=io.BytesIO(content),
                        headers={"Content-Disposition": name},
                    )
                    digest = hashlib.sha256(content).hexdigest()
                    self.digests.setdefault(tenant, {})[reference] = digest

    @property
    def environment(self) -> dict[str, str]:
        """Where the settings are."""
        return {
            **self.stack.environment,
            "SEALGATE_CONFIG": str(self.stack.home / "gateway.toml"),
        }

    def settings(self) -> Settings:
        """Return the gateway's settings."""
        return load(self.stack.home / "gateway.toml", environment=False)

    def folder(self, target: str) -> Path:
        """Return where a target keeps its objects as files."""
        place = self.stack.targets[target]
        return place.folder if isinstance(place, Bucket) else place

    @property
    def catalog(self) -> Path:
        """Return the SQLite file."""
        return Path(self.stack.catalog.removeprefix("sqlite:///"))

    def lose(self, target: str) -> None:
        """Empty a target behind everybody's back."""
        for entry in self.folder(target).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def bodies(self, target: str) -> Iterator[Path]:
        """Yield the files of a target's bodies, in order."""
        yield from sorted(self.folder(target).rglob("body"))

    async def versions(self) -> list[Version]:
        """Return every version that the catalog knows."""
        settings = await asyncio.to_thread(self.settings)
        async with open_core(settings) as core:
            return [held.version for held in await core.replicas.held("primary", limit=10_000)]

    async def damaged(self, target: str) -> dict[str, str]:
        """Verify a whole target; return what is wrong with it, by version."""
        settings = await asyncio.to_thread(self.settings)
        found: dict[str, str] = {}
        async with open_core(settings) as core:
            (store,) = [each.store for each in core.targets if each.name == target]
            for held in await core.replicas.held("primary", limit=10_000):
                try:
                    await check_replica(store, held.version)
                except GatewayError as error:
                    found[held.version.id] = type(error).__name__
        return found

    async def unfinished(self, target: str) -> int:
        """Count the multipart uploads that nobody completed."""
        settings = await asyncio.to_thread(self.settings)
        async with open_core(settings) as core:
            (store,) = [each.store for each in core.targets if each.name == target]
            return len([each async for each in store.unfinished("t/")])

    async def digests_read(self) -> dict[str, dict[str, str]]:
        """Read everything through the gateway; return the digests."""
        read: dict[str, dict[str, str]] = {}
        async with Client(self.stack.url, self.token) as client:
            for tenant, attachments in self.digests.items():
                for reference in attachments:
                    path = f"/v1/tenants/{tenant}/attachments/{reference}"
                    read.setdefault(tenant, {})[reference] = await client.digest(path)
        return read


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file, and leave its length and time as they were."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(found.st_size // 2)
        byte = file.read(1)
        file.seek(found.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def objects(version: Version) -> tuple[str, str]:
    """Return the keys of a version's objects."""
    return body_key(version.tenant, version.blob), envelope_key(version.tenant, version.blob)
