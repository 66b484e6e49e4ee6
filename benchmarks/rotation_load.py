"""What reads and writes cost while a rotation runs beside them, as a ratio to without, in one run."""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rotation_fill import fill
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.stack.client import Client
from tests.stack.stack import Stack

ROUNDS = 3
SECONDS = 8.0  # of one round
READS, WRITES = 20.0, 10.0  # a second, whether earlier ones have ended or not
SIZE = 32 * 1024
KNOWN = 100  # attachments that are read
ENVELOPES = 8_000  # of the tenant that is rotated: as many as the configured rate takes in a round
AIM = 1.2


@dataclass
class Times:
    """Seconds of each request, by kind."""

    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)


async def foreground(stack: Stack, home: Path) -> dict[str, float]:
    """Time requests by turns alone and beside a rotation; return p99s and their ratios."""
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    alone, beside, moved = Times(), Times(), 0
    async with (
        open_core(settings, patience=60.0) as core,
        Client(stack.url, await asyncio.to_thread(stack.admin_token)) as client,
    ):
        tenant = await client.create_tenant()
        for number in range(KNOWN):
            await put(client, tenant, f"known-{number}")
        await requests(client, tenant, SECONDS / 2, Times())
        for _ in range(ROUNDS):
            crowded = await client.create_tenant()
            await fill(core, crowded, ENVELOPES, home)
            (old,) = (use.kek for use in await core.wraps.uses(crowded))
            await requests(client, tenant, SECONDS, alone)
            rotation = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "rotate", "kek", "--tenant", crowded),
                env=stack.environment | {"SEALGATE_CONFIG": str(stack.home / "gateway.toml")},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await rewrapping(core, crowded)
            before = await left(core, crowded, old)
            await requests(client, tenant, SECONDS, beside)
            moved += before - await left(core, crowded, old)
            rotation.kill()
            await rotation.wait()
    figures = told(alone, beside) | {"rewrapped": moved / ROUNDS / SECONDS}
    print(f"rewrapped beside them {figures['rewrapped']:.0f} a second")
    return figures


async def left(core: Core, tenant: str, kek: str) -> int:
    """Count what is still under a KEK."""
    return sum(use.versions for use in await core.wraps.uses(tenant) if use.kek == kek)


async def rewrapping(core: Core, tenant: str) -> None:
    """Wait until a rotation is at it."""
    while len(await core.wraps.uses(tenant)) == 1:  # noqa: ASYNC110 - of another process
        await asyncio.sleep(0.1)


async def requests(client: Client, tenant: str, seconds: float, times: Times) -> None:
    """Send requests at their rates, whether earlier ones have ended or not."""
    dice, until = random.Random(1), time.monotonic() + seconds

    async def timed(work: Awaitable[None], kept: list[float]) -> None:
        began = time.monotonic()
        await work
        kept.append(time.monotonic() - began)

    async def at(rate: float, make: Callable[[], Awaitable[None]], kept: list[float]) -> None:
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until:
                group.create_task(timed(make(), kept))
                await asyncio.sleep(dice.expovariate(rate))

    async with asyncio.TaskGroup() as kinds:
        kinds.create_task(
            at(READS, lambda: get(client, tenant, f"known-{dice.randrange(KNOWN)}"), times.reads)
        )
        kinds.create_task(
            at(WRITES, lambda: put(client, tenant, f"new-{dice.random()}"), times.writes)
        )


async def put(client: Client, tenant: str, name: str) -> None:
    """Store an attachment."""
    await client.json("PUT", f"/v1/tenants/{tenant}/attachments/{name}", data=bytes(SIZE))


async def get(client: Client, tenant: str, name: str) -> None:
    """Read one."""
    async with client.request("GET", f"/v1/tenants/{tenant}/attachments/{name}") as answer:
        assert answer.status == 200, await answer.text()
        assert len(await answer.read()) == SIZE


def told(alone: Times, beside: Times) -> dict[str, float]:
    """Print p50 and p99 of each kind, and the ratios."""
    figures = {}
    for kind in ("reads", "writes"):
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            without, with_one = (quantile(getattr(times, kind), part) for times in (alone, beside))
            figures[f"{kind} {name} ratio"] = with_one / without
            figures[f"{kind} {name} alone"] = without
            figures[f"{kind} {name} beside"] = with_one
            print(
                f"{kind:<7} {name}  alone {without * 1000:7.1f} ms  beside a rotation "
                f"{with_one * 1000:7.1f} ms  ratio {with_one / without:5.2f} (aim {AIM} for p99)"
            )
    return figures


def quantile(times: list[float], part: float) -> float:
    """Return the time below which this part of them is."""
    return statistics.quantiles(times, n=1000, method="inclusive")[round(part * 1000) - 1]
