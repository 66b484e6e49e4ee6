"""A tenant with attachments over a stack, and the KEKs that its envelopes are under."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.doubles.rotating import keks_on
from tests.stack.client import Client
from tests.stack.stack import Stack

EACH = 24


def content(name: str) -> bytes:
    """Every other one is too large to travel in its envelope."""
    return name.encode() * (3 if sum(name.encode()) % 2 else 30_000)


async def filled(
    client: Client, tier: str = "standard", count: int = EACH
) -> tuple[str, list[str]]:
    """Make a tenant with attachments."""
    tenant = await client.create_tenant(tier)
    names = [f"report-{number}" for number in range(count)]
    for name in names:
        await put(client, tenant, name)
    return tenant, names


async def put(client: Client, tenant: str, name: str) -> None:
    path = f"/v1/tenants/{tenant}/attachments/{name}"
    await client.json("PUT", path, data=content(name))


async def get(client: Client, tenant: str, name: str) -> bytes:
    async with client.request("GET", f"/v1/tenants/{tenant}/attachments/{name}") as answer:
        assert answer.status == 200, (name, await answer.text())
        body: bytes = await answer.read()
        return body


@asynccontextmanager
async def opened(site: Stack) -> AsyncIterator[Core]:
    settings = await asyncio.to_thread(load, site.home / "gateway.toml", environment=False)
    async with open_core(settings) as core:
        yield core


async def keks(site: Stack, tenant: str) -> dict[str, set[str]]:
    """Return the KEKs that a tenant's envelopes are under: by the catalog's word, and by each target's."""
    async with opened(site) as core:
        found = {"catalog": {use.kek for use in await core.wraps.uses(tenant)}}
        for target in core.targets:
            envelopes = await keks_on(target.store)
            mine = [under for key, under in envelopes.items() if tenant in key]
            found[target.name] = {kek for under in mine for kek in under}
    return found
