"""The primary is lost: reads go on, a backup is promoted by one command, and the way back loses nothing."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.config import load
from gateway.targets.failover import Refused
from gateway.wiring.core import open_core
from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NewStack
from tests.service.spine.test_outages import readiness
from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket, Stack

SIZE = MiB


def path(tenant: str, reference: str) -> str:
    return f"/v1/tenants/{tenant}/attachments/{reference}"


async def put(client: Client, tenant: str, reference: str) -> int:
    """Store what is known by its name; return the status."""
    body = generated(SIZE, reference.encode())
    async with client.request("PUT", path(tenant, reference), data=body) as answer:
        await answer.read()
        return int(answer.status)


async def until(client: Client, tenant: str, reference: str, stored: list[str]) -> None:
    """Store until it is acknowledged by these targets: gateways learn of a decision after a moment."""
    for _ in range(1000):
        body = generated(SIZE, reference.encode())
        async with client.request("PUT", path(tenant, reference), data=body) as answer:
            receipt = await answer.json(content_type=None)
        if answer.status == 201 and receipt["stored"] == stored:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never stored by {stored}")


async def versions(client: Client, tenant: str, references: list[str]) -> int:
    """Count the versions that these have."""
    pages = [await client.json("GET", f"{path(tenant, each)}/versions") for each in references]
    return sum(len(page["versions"]) for page in pages)


async def first_byte(client: Client, tenant: str, reference: str) -> float:
    """Read it whole, compare, and return the seconds until its first byte."""
    begun = time.monotonic()
    async with client.request("GET", path(tenant, reference)) as answer:
        assert answer.status == 200, await answer.text()
        first = await answer.content.read(1)
        seconds = time.monotonic() - begun
        content = first + await answer.content.read()
    assert content == b"".join([piece async for piece in generated(SIZE, reference.encode())])
    return seconds


@dataclass
class Command:
    """`sealgate failover` of a stack."""

    stack: Stack

    async def __call__(self, *words: str) -> dict[str, Any]:
        """Run it and return its JSON."""
        told = await asyncio.to_thread(self.stack.sealgate, "failover", *words, "--json")
        shown: dict[str, Any] = json.loads(told)
        return shown


async def refused(stack: Stack, why: str) -> None:
    """Try to go back too early."""
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    async with open_core(settings) as core:
        for target in core.targets:
            await target.store.check()  # the first one takes its time on a machine that is busy
        with pytest.raises(Refused, match=why):
            await core.failover.demote()


async def test_the_primary_is_lost_and_comes_back(
    tmp_path: Path,
    new_s3: Callable[[], Versitygw],
    s3: Versitygw,
    new_stack: NewStack,
    record_property: Callable[[str, object], None],
) -> None:
    primary = await asyncio.to_thread(new_s3)
    stack = await new_stack(
        tmp_path / "stack",
        targets={
            "primary": Bucket(primary, primary.new_bucket()),
            "east": Bucket(s3, s3.new_bucket()),
            "west": Bucket(s3, s3.new_bucket()),
        },
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        extra={"failover": {"refresh": 0.5}},
    )
    failover = Command(stack)
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        before = [f"before-{number}" for number in range(8)]
        for reference in before:
            assert await put(client, tenant, reference) == 201

        await asyncio.to_thread(primary.kill)
        lost = time.monotonic()
        waits = [await first_byte(client, tenant, reference) for reference in before]
        assert max(waits) < 60  # a second on a machine that does nothing else
        assert await put(client, tenant, "refused") == 503

        told = await failover("promote", "east", "--yes")
        assert (told["primary"], told["epoch"], told["at_risk"]) == ("east", 1, [])
        await until(client, tenant, "during-0", ["east", "west"])
        outage = time.monotonic() - lost
        record_property("slowest first byte of a read, seconds", round(max(waits), 3))
        record_property("write outage, seconds", round(outage, 2))
        during = [f"during-{number}" for number in range(4)]
        await readiness(client, 200, "catalog: ok")
        async with client.request("GET", "/metrics") as answer:
            assert 'sealgate_primary{target="east"} 1.0' in await answer.text()

        # Gateways that start while the old primary is away know who took its place.
        await asyncio.to_thread(stack.gateway.kill)
        await asyncio.to_thread(stack.keys.kill)
        await asyncio.to_thread(stack.keys.start)
        await asyncio.to_thread(stack.gateway.start)
        for reference in during[1:]:
            assert await put(client, tenant, reference) == 201

        await asyncio.to_thread(primary.start)
        missed = await versions(client, tenant, during)
        await refused(stack, f"still misses {missed} versions")
        told = await failover("demote", "--wait", "--timeout", "90", "--yes")
        assert (told["primary"], told["epoch"]) == ("primary", 2)
        assert [each["missing"] for each in told["targets"]] == [0, 0, 0]

        await until(client, tenant, "after", ["east", "primary", "west"])
        for reference in (*before, *during):
            assert await client.digest(path(tenant, reference)) == await digest_of(
                generated(SIZE, reference.encode())
            )


async def test_a_hanging_primary_costs_a_read_no_more_than_the_hedge(
    tmp_path: Path,
    new_s3: Callable[[], Versitygw],
    s3: Versitygw,
    new_stack: NewStack,
    record_property: Callable[[str, object], None],
) -> None:
    primary = await asyncio.to_thread(new_s3)
    stack = await new_stack(
        tmp_path / "stack",
        targets={
            "primary": Bucket(primary, primary.new_bucket()),
            "east": Bucket(s3, s3.new_bucket()),
        },
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        extra={"limits": {"hedge_after": 0.3, "first_byte": 30}},
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        for reference in ("a", "b"):
            assert await put(client, tenant, reference) == 201
        primary.pause()
        try:
            waits = [await first_byte(client, tenant, each) for each in ("a", "b", "a", "b")]
        finally:
            primary.resume()
        assert waits[0] < 20  # before `first_byte` could have left it
        record_property("first bytes, seconds", [round(wait, 3) for wait in waits])
        async with client.request("GET", "/metrics") as answer:
            won = re.search(
                r"^sealgate_hedged_reads_won_total (\d+)", await answer.text(), re.MULTILINE
            )
        # Where the other one is slow as well, the primary is asked again.
        assert won is not None
        assert 1 <= int(won[1]) <= len(waits)
