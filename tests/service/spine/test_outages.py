"""Each dependency goes away and comes back; the client gets the documented answer meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.keys.ahead import MOST
from tests.servers.prepared import prepare
from tests.servers.vault import NewVault
from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NewStack
from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket, Stack

BODY = 2 * MiB


def path(tenant: str, reference: str) -> str:
    return f"/v1/tenants/{tenant}/attachments/{reference}"


async def refused(client: Client, method: str, where: str, *, size: int = BODY) -> tuple[int, str]:
    """Send a request that must fail; return its status and the last word of its type."""
    body = {"data": generated(size)} if method == "PUT" else {}
    async with client.request(method, where, **body) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status >= 400
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status, problem["type"].rpartition(":")[2]


async def use_up_keys(client: Client, tenant: str) -> None:
    """Upload until the few data keys that were fetched ahead are gone."""
    for number in range(MOST + 1):
        async with client.request("PUT", path(tenant, f"ahead-{number}"), data=b"x") as answer:
            if answer.status == 503:
                return
    raise AssertionError("there are more keys than may be fetched ahead")


async def readiness(client: Client, status: int, line: str) -> None:
    """Wait until `/readyz` says so: on a busy machine a probe may not be answered in time."""
    async with asyncio.timeout(60):
        while True:
            async with client.request("GET", "/readyz") as answer:
                if answer.status == status and line in await answer.text():
                    return
            await asyncio.sleep(0.1)


async def folder_stack(new_stack: NewStack, home: Path) -> Stack:
    return await new_stack(
        home / "stack",
        targets={name: home / name for name in ("primary", "east")},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        extra={"keyservice": {"cache_ttl": 300.0}},  # a cached key outlives this test
    )


async def test_the_key_service_goes_and_comes_back(tmp_path: Path, new_stack: NewStack) -> None:
    stack = await folder_stack(new_stack, tmp_path)
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        await client.json("PUT", path(tenant, "warm"), data=generated(BODY))
        assert await client.digest(path(tenant, "warm")) == await digest_of(generated(BODY))
        await client.json("PUT", path(tenant, "cold"), data=generated(BODY))
        await asyncio.to_thread(stack.keys.kill)

        await use_up_keys(client, tenant)
        assert await refused(client, "PUT", path(tenant, "new")) == (503, "keys-unavailable")
        assert await refused(client, "GET", path(tenant, "cold")) == (503, "keys-unavailable")
        # A data key that is still cached goes on opening, for as long as the cache may keep it.
        assert await client.digest(path(tenant, "warm")) == await digest_of(generated(BODY))
        await readiness(client, 503, "key service: failed")

        await asyncio.to_thread(stack.keys.start)
        await client.json("PUT", path(tenant, "new"), data=generated(BODY))
        assert await client.digest(path(tenant, "cold")) == await digest_of(generated(BODY))


async def test_vault_is_sealed_and_opened_again(
    tmp_path: Path, new_vault: NewVault, new_stack: NewStack
) -> None:
    vault = await asyncio.to_thread(new_vault)
    await asyncio.to_thread(vault.open)
    stack = await new_stack(
        tmp_path / "stack",
        targets={"primary": tmp_path / "primary"},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        vault=await asyncio.to_thread(prepare, vault, tmp_path),
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        known, idle = await client.create_tenant(), await client.create_tenant()
        await client.json("PUT", path(known, "a"), data=generated(BODY))
        await client.json("PUT", path(idle, "a"), data=generated(BODY))
        await asyncio.to_thread(stack.keys.restart)
        await client.json("PUT", path(known, "b"), data=generated(BODY))
        await asyncio.to_thread(vault.seal)

        # This tenant's KEK is cached, so it goes on; the other's is not.
        await client.json("PUT", path(known, "c"), data=generated(BODY))
        assert await refused(client, "PUT", path(idle, "c")) == (503, "keys-unavailable")
        assert await refused(client, "POST", "/v1/tenants") == (503, "keys-unavailable")

        await asyncio.to_thread(vault.open)
        await client.json("PUT", path(idle, "c"), data=generated(BODY))


async def test_the_primary_goes_and_comes_back(
    tmp_path: Path, new_s3: Callable[[], Versitygw], s3: Versitygw, new_stack: NewStack
) -> None:
    primary = await asyncio.to_thread(new_s3)
    stack = await new_stack(
        tmp_path / "stack",
        targets={
            "primary": Bucket(primary, primary.new_bucket()),
            "east": Bucket(s3, s3.new_bucket()),
        },
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        await client.json("PUT", path(tenant, "a"), data=generated(BODY))
        await asyncio.to_thread(primary.kill)

        assert await client.digest(path(tenant, "a")) == await digest_of(generated(BODY))
        assert await refused(client, "PUT", path(tenant, "b")) == (503, "quorum-lost")
        assert await refused(client, "GET", path(tenant, "b")) == (404, "not-found")

        await asyncio.to_thread(primary.start)
        made = await client.json("PUT", path(tenant, "b"), data=generated(BODY))
        assert made["stored"] == ["east", "primary"]


async def test_a_backup_that_hangs_does_not_hold_the_client(
    tmp_path: Path, new_s3: Callable[[], Versitygw], s3: Versitygw, new_stack: NewStack
) -> None:
    slow = await asyncio.to_thread(new_s3)
    stack = await new_stack(
        tmp_path / "stack",
        targets={
            "primary": Bucket(s3, s3.new_bucket()),
            "east": Bucket(s3, s3.new_bucket()),
            "west": Bucket(slow, slow.new_bucket()),
        },
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        extra={"limits": {"backup_patience": 0.5}},
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        slow.pause()
        try:
            async with asyncio.timeout(100):
                made = await client.json("PUT", path(tenant, "a"), data=generated(40 * MiB))
        finally:
            slow.resume()
        assert made["stored"] == ["east", "primary"]
        (version,) = (await client.json("GET", path(tenant, "a") + "/versions"))["versions"]
        assert version["replicas"]["west"] == "missing"
