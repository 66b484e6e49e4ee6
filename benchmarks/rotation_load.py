"""What reads and writes cost while a rotation runs beside them, as a ratio to without, in one run."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from benchmarks.command import at_work
from benchmarks.foreground import ROUNDS, SECONDS, Comparison, compare
from benchmarks.rotation_fill import fill
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.stack.client import Client
from tests.stack.stack import Stack

ENVELOPES = 1_000  # for each second of a stretch: as many as the configured rate takes
AIM = 1.2


async def foreground(
    stack: Stack, home: Path, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> Comparison:
    """Time requests by turns alone and beside a rotation."""
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    async with (
        open_core(settings, patience=60.0) as core,
        Client(stack.url, await asyncio.to_thread(stack.admin_token)) as client,
    ):
        work = Rotating(stack, core, client, home, round(ENVELOPES * seconds))
        return await compare(client, {"a rotation": work}, rounds=rounds, seconds=seconds)


class Rotating:
    """`sealgate rotate kek` of a tenant that is filled anew each round."""

    def __init__(self, stack: Stack, core: Core, client: Client, home: Path, count: int) -> None:
        self._stack = stack
        self._core = core
        self._client = client
        self._home = home
        self._count = count
        self._tenant = self._old = ""

    async def prepare(self) -> None:
        """Implement `Work.prepare`."""
        self._tenant = await self._client.create_tenant()
        await fill(self._core, self._tenant, self._count, self._home)
        (self._old,) = (use.kek for use in await self._core.wraps.uses(self._tenant))

    def going(self) -> AbstractAsyncContextManager[None]:
        """Implement `Work.going`."""
        words = ("rotate", "kek", "--tenant", self._tenant)
        return at_work(self._stack, words, self.done)

    async def done(self) -> int:
        """Implement `Work.done`."""
        uses = await self._core.wraps.uses(self._tenant)
        return sum(use.versions for use in uses if use.kek != self._old)
