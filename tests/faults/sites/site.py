"""A site under faults: a stack, what an application stored on it, and ways to look at every copy."""

import asyncio
import contextlib
import hashlib
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gateway.model import ReplicaState, body_key, envelope_key
from gateway.ports import Held
from gateway.repair.verify import check_replica
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.stack.client import Client
from tests.stack.forks import sealgate, told
from tests.stack.stack import Bucket, Stack

LANES = 8  # requests of an application at a time


@dataclass
class Site:
    """A running stack over buckets, with one tenant. `sent` are the SHA-256 of what was acknowledged."""

    stack: Stack
    token: str = ""
    tenant: str = ""
    sent: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # the newest of each, acknowledged

    async def open(self) -> None:
        """Make the token and the tenant."""
        self.token = await asyncio.to_thread(self.stack.admin_token)
        async with self.client() as client:
            self.tenant = await client.create_tenant()

    def client(self) -> Client:
        """Return an application that may do everything."""
        return Client(self.stack.url, self.token)

    def path(self, reference: str) -> str:
        """Return where an attachment is."""
        return f"/v1/tenants/{self.tenant}/attachments/{reference}"

    async def put(self, client: Client, reference: str, content: bytes) -> list[str]:
        """Store; return the targets that hold it. It must be acknowledged."""
        receipt = await client.json("PUT", self.path(reference), data=io.BytesIO(content))
        self.sent[reference] = hashlib.sha256(content).hexdigest()
        self.versions[reference] = receipt["version"]
        return list(receipt["stored"])

    async def put_all(self, client: Client, contents: Iterable[tuple[str, bytes]]) -> None:
        """Store many, some at a time."""
        left = iter(contents)

        async def lane() -> None:
            for reference, content in left:
                await self.put(client, reference, content)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())

    async def differing(self, client: Client, references: Iterable[str] = ()) -> list[str]:
        """Read these, or everything that was acknowledged; return what is not as it was sent."""
        names = tuple(references) or tuple(self.sent)
        left, found = iter(names), dict[str, str]()

        async def lane() -> None:
            for reference in left:
                found[reference] = await client.digest(self.path(reference))

        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())
        return [name for name in names if found[name] != self.sent[name]]

    async def command(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run `sealgate` with the settings of the gateway; return its JSON."""
        config = self.stack.home / "gateway.toml"
        return await asyncio.to_thread(partial(told, config, *words, code=code))

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Run `sealgate worker` for as long as the block lasts."""
        config = self.stack.home / "gateway.toml"
        process = await asyncio.to_thread(sealgate, config, "worker", "--port", "0")
        try:
            yield
        finally:
            process.terminate()
            await asyncio.to_thread(process.join)
        assert process.exitcode == 0

    async def caught_up(self, target: str, within: float = 120.0) -> None:
        """Wait until a target holds everything."""
        async with self.core() as core, asyncio.timeout(within):
            while (await core.replicas.lag([target]))[0].objects:  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def core(self) -> AsyncIterator[Core]:
        """Give the parts of a gateway, in this process."""
        settings = await asyncio.to_thread(
            load, self.stack.home / "gateway.toml", environment=False
        )
        async with open_core(settings) as core:
            yield core

    async def whole(self) -> int:
        """Verify every replica of every version on every target; return how many these are."""
        async with self.core() as core:
            pages = {
                each: await core.replicas.held(each.name, tenant=self.tenant, limit=5000)
                for each in core.targets
            }
            left = [(target, held) for target, page in pages.items() for held in page]
            count, rest = len(left), iter(left)

            async def lane() -> None:
                for target, held in rest:
                    assert held.state is ReplicaState.STORED, (target.name, held)
                    await check_replica(target.store, held.version)

            async with asyncio.TaskGroup() as lanes:
                for _ in range(LANES):
                    lanes.create_task(lane())
        return count

    async def held(self, reference: str, target: str = "primary") -> Held:
        """Return what the catalog knows of the newest version of an attachment on a target."""
        async with self.core() as core:
            page = await core.replicas.held(target, limit=5000)
        return next(each for each in page if each.version.id == self.versions[reference])

    async def known(
        self, reference: str, target: str, state: ReplicaState, again: Callable[[], Awaitable[None]]
    ) -> None:
        """Wait until the catalog says this of a replica; read again, since a late store is left unseen."""
        async with asyncio.timeout(100):
            while True:
                for _ in range(10):  # reads tell what they saw after a moment
                    if (await self.held(reference, target)).state is state:
                        return
                    await asyncio.sleep(0.1)
                await again()

    def file(self, held: Held, target: str, *, body: bool = True) -> Path:
        """Return where the S3 server of a target keeps an object of a version."""
        place = self.stack.targets[target]
        assert isinstance(place, Bucket)
        name = (body_key if body else envelope_key)(held.version.tenant, held.version.blob)
        return place.folder / name


def contents(count: int, sizes: tuple[int, ...], seed: str) -> Iterable[tuple[str, bytes]]:
    """Make attachments, named after the seed, of sizes in turn."""
    rng = random.Random(seed)
    for number in range(count):
        yield f"{seed}-{number}", rng.randbytes(sizes[number % len(sizes)])
