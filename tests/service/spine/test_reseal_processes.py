"""`sealgate rotate dek` on Vault, PostgreSQL and S3, while an application reads and writes."""

import asyncio
import base64
import hashlib
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.stack.client import Client
from tests.stack.forks import told
from tests.stack.stack import Stack

SIZES = (0, 10, 70_000, 300_000, 12_000_000)  # the first two in their envelopes, the last in parts
PAUSE = 0.1
KEPT = (
    "ETag",
    "Last-Modified",
    "Content-Length",
    "Content-Type",
    "Content-Disposition",
    "Repr-Digest",
)


def content(reference: str, size: int) -> bytes:
    return hashlib.shake_256(reference.encode()).digest(size)


class Application:
    """One tenant's backend."""

    def __init__(self, client: Client, tenant: str) -> None:
        self.client, self.tenant = client, tenant
        self.stored: dict[str, bytes] = {}

    def path(self, reference: str) -> str:
        return f"/v1/tenants/{self.tenant}/attachments/{reference}"

    async def put(self, reference: str, size: int) -> None:
        body = content(reference, size)
        digest = hashlib.sha256(body).digest()
        headers = {
            "Content-Disposition": f'attachment; filename="{reference}.bin"',
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
        }
        await self.client.json("PUT", self.path(reference), data=io.BytesIO(body), headers=headers)
        self.stored[reference] = body

    async def get(self, reference: str) -> bytes:
        async with self.client.request("GET", self.path(reference)) as answer:
            assert answer.status == 200, (reference, await answer.text())
            body: bytes = await answer.read()
            return body

    async def heads(self) -> dict[str, dict[str, str | None]]:
        """Return what users see of each attachment but its content."""
        found = {}
        for reference in self.stored:
            async with self.client.request("HEAD", self.path(reference)) as answer:
                assert answer.status == 200
                found[reference] = {name: answer.headers.get(name) for name in KEPT}
        return found

    async def unreadable(self) -> list[str]:
        """Read everything; name what does not come back as it was."""
        return [name for name, body in self.stored.items() if await self.get(name) != body]


async def dek(spine: Stack, *words: str, code: int = 0) -> dict[str, Any]:
    config = spine.home / "gateway.toml"
    return await asyncio.to_thread(told, config, "rotate", "dek", "--json", *words, code=code)


@pytest.fixture
async def application(client: Client) -> Application:
    """Give a tenant with attachments of every kind."""
    made = Application(client, await client.create_tenant())
    for number, size in enumerate(SIZES):
        await made.put(f"file-{number}", size)
    return made


async def test_reads_and_writes_go_on(application: Application, spine: Stack) -> None:
    heads, begun = await application.heads(), datetime.now(UTC).isoformat()
    largest = f"file-{len(SIZES) - 1}"
    async with application.client.request("GET", application.path(largest)) as slow:
        read = await slow.content.readany()
        work = asyncio.create_task(dek(spine, "--tenant", application.tenant, "--parallel", "2"))
        rounds = 0
        while not work.done():
            await application.put(f"during-{rounds}", 50_000)
            for reference in (f"during-{rounds}", f"file-{rounds % len(SIZES)}"):
                assert await application.get(reference) == application.stored[reference]
            read += await slow.content.read(64 * 1024)  # as much as a slow client has to take
            rounds += 1
            await asyncio.sleep(PAUSE)
        done = await work
        read += await slow.content.read()
    assert read == application.stored[largest]
    assert (done["failed"], done["refused"]) == (0, {})
    assert done["resealed"] >= len(SIZES)
    now = await application.heads()
    assert {name: now[name] for name in heads} == heads
    assert await application.unreadable() == []

    dry = await dek(spine, "--tenant", application.tenant, "--before", begun, "--dry-run")
    assert (dry["resealed"], dry["recent"]) == (0, len(application.stored))
    again = await dek(spine, "--tenant", application.tenant, "--before", begun)
    assert (again["resealed"], again["recent"]) == (0, len(application.stored))


async def test_two_at_once_and_one_attachment(application: Application, spine: Stack) -> None:
    one = ("--attachment", f"{application.tenant}/file-4")
    every, single = await asyncio.gather(
        dek(spine, "--tenant", application.tenant), dek(spine, *one)
    )
    assert every["failed"] + single["failed"] == 0
    assert single["resealed"] + single["overtaken"] + single["recent"] == 1
    assert len(SIZES) <= every["resealed"] + every["overtaken"] + every["recent"]
    assert await application.unreadable() == []


async def test_a_suspended_tenant_is_left_as_it_is(application: Application, spine: Stack) -> None:
    config = spine.home / "gateway.toml"
    reason = ("--reason", "test")
    await asyncio.to_thread(told, config, "keys", "suspend", application.tenant, *reason)
    done = await dek(spine, "--tenant", application.tenant, code=1)
    assert done["refused"] == {application.tenant: "suspended"}
    assert done["resealed"] == 0
    await asyncio.to_thread(told, config, "keys", "resume", application.tenant, *reason)
    done = await dek(spine, "--tenant", application.tenant)
    assert (done["resealed"], done["refused"]) == (len(SIZES), {})
    assert await application.unreadable() == []
