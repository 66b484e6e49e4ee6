"""What reads and writes through a gateway cost while something else goes on beside them.

Guarantees that with and without are of one run, by turns, and that requests come at their rates whether
earlier ones have ended or not, so that one which is late delays none of those behind it. What goes on
beside them is a `Work`, which it knows nothing of.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Protocol

from tests.stack.client import Client

ROUNDS = 3
SECONDS = 8.0  # of one stretch
READS, WRITES = 20.0, 10.0  # a second
SIZE = 32 * 1024
KNOWN = 100  # attachments that are read
PARTS = (("p50", 0.5), ("p99", 0.99))


@dataclass
class Times:
    """Seconds of each request, by kind."""

    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)


class Work(Protocol):
    """What goes on beside requests."""

    async def prepare(self) -> None:
        """Make enough of it for one stretch, before any of a round is timed."""

    def going(self) -> AbstractAsyncContextManager[None]:
        """Be at it while the block runs."""

    async def done(self) -> int:
        """Count what was done so far."""


@dataclass
class Comparison:
    """What was measured, a `Times` a round; `rates` is what each work did a second, in all."""

    alone: list[Times] = field(default_factory=list)
    beside: dict[str, list[Times]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "beside": {name: [asdict(row) for row in self.rows(name)] for name in self.beside},
            "rates": self.rates,
        }

    def rows(self, name: str) -> "Iterator[Row]":
        """Yield p50 and p99 of each kind, of all rounds together, and each round's ratio."""
        for kind in ("reads", "writes"):
            for title, part in PARTS:
                alone, beside = self._of(self.alone, kind), self._of(self.beside[name], kind)
                yield Row(
                    f"{kind}, {title}",
                    quantile([*chain.from_iterable(alone)], part),
                    quantile([*chain.from_iterable(beside)], part),
                    [
                        quantile(with_it, part) / quantile(without, part)
                        for without, with_it in zip(alone, beside, strict=True)
                    ],
                )

    def _of(self, rounds: Sequence[Times], kind: str) -> list[list[float]]:
        return [getattr(each, kind) for each in rounds]

    def table(self) -> str:
        """Return it in Markdown."""
        lines = ["| | alone | beside | ratio | each round |"]
        lines.append("|---|---|---|---|---|")
        for name in self.beside:
            lines.append(f"| **{name}**, {self.rates[name]:.0f} a second | | | | |")
            for row in self.rows(name):
                each = ", ".join(f"{ratio:.2f}" for ratio in row.rounds)
                lines.append(
                    f"| {row.title} | {row.alone * 1000:.1f} ms | {row.beside * 1000:.1f} ms "
                    f"| {row.ratio:.2f} | {each} |"
                )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: seconds without and with something beside the requests."""

    title: str
    alone: float
    beside: float
    rounds: list[float]  # ratios

    @property
    def ratio(self) -> float:
        """How many times as long it took."""
        return self.beside / self.alone


async def compare(
    client: Client, works: Mapping[str, Work], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> Comparison:
    """Time requests by turns alone and beside each work."""
    found, done = Comparison(beside={name: [] for name in works}), dict.fromkeys(works, 0)
    tenant = await client.create_tenant()
    for number in range(KNOWN):
        await put(client, tenant, f"known-{number}")
    await requests(client, tenant, seconds / 2, Times())
    for number in range(rounds):
        for work in works.values():
            await work.prepare()
        turns = ["", *works]
        first = number % len(turns)
        for name in turns[first:] + turns[:first]:
            times = Times()
            if not name:
                await requests(client, tenant, seconds, times)
                found.alone.append(times)
                continue
            work = works[name]
            async with work.going():
                before = await work.done()
                await requests(client, tenant, seconds, times)
                done[name] += await work.done() - before
            found.beside[name].append(times)
    found.rates = {name: count / rounds / seconds for name, count in done.items()}
    return found


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


def quantile(times: Sequence[float], part: float) -> float:
    """Return the time below which this part of them is."""
    return statistics.quantiles(times, n=1000, method="inclusive")[round(part * 1000) - 1]
