"""A customer holds the root key: two real Vaults, a key service, a gateway, reads and writes throughout."""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyservice.client.client import KeyServiceClient
from keyservice.wire import TenantRoot
from tests.servers.owner import Owner, customer
from tests.servers.prepared import prepare
from tests.servers.vault import SealableVault, Vault
from tests.stack.client import Client, digest_of, generated
from tests.stack.stack import Stack, apart

SIZE = 70_000
WHY = "contract 12"
WITHDRAWN = (403, "suspended-by-owner")


@pytest.fixture(scope="module")
def owner(owners_vault: SealableVault, tmp_path_factory: pytest.TempPathFactory) -> Owner:
    """Give the customer whose Vault the key service is set up for."""
    return customer(owners_vault, tmp_path_factory.mktemp("customer"), "acme")


@pytest.fixture(scope="module")
def stack(vault: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("held")
    stack = Stack(
        home / "stack",
        targets={name: home / name for name in ("primary", "east")},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        vault=prepare(vault, home, wrapping_key=True),
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def theirs(stack: Stack, owner: Owner) -> list[str]:
    """Give tenants of the customer's, each to be used by one test."""
    token = stack.admin_token()

    async def create() -> list[str]:
        async with Client(stack.url, token) as client:
            return [await client.create_tenant("business") for _ in range(3)]

    tenants = apart(create)
    stack.hold(owner.section(*tenants))
    return tenants


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        yield client


@pytest.fixture
async def keys(stack: Stack) -> AsyncIterator[KeyServiceClient]:
    certs = stack.home / "certs"
    async with KeyServiceClient(
        stack.keys_url,
        ca_file=certs / "ca.crt",
        certificate=certs / "gateway.crt",
        private_key=certs / "gateway.key",
        timeout=100,
        attempt_timeout=60,
    ) as client:
        yield client


def path(tenant: str, reference: object) -> str:
    return f"/v1/tenants/{tenant}/attachments/{reference}"


@dataclass(slots=True)
class Traffic:
    """Uploads and downloads, one after the other, until it is stopped; every one must succeed."""

    client: Client
    tenant: str
    written: int = 0
    read: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        while not self.over.is_set():
            seed = str(self.written).encode()
            await self.client.json(
                "PUT", path(self.tenant, self.written), data=generated(SIZE, seed)
            )
            async with self.more:
                self.written += 1
                self.more.notify_all()
            await self.whole(secrets.randbelow(self.written))

    async def whole(self, reference: int) -> None:
        seed = str(reference).encode()
        found = await self.client.digest(path(self.tenant, reference))
        assert found == await digest_of(generated(SIZE, seed))
        self.read += 1

    async def go_on(self) -> None:
        """Return once some more were written and read."""
        wanted = self.written + 2
        async with self.more:
            await self.more.wait_for(lambda: self.written >= wanted)


@contextlib.asynccontextmanager
async def flowing(client: Client, tenant: str) -> AsyncIterator[Traffic]:
    traffic = Traffic(client, tenant)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run())
        try:
            yield traffic
        finally:
            traffic.over.set()


async def answer(client: Client, method: str, where: str) -> tuple[int, str]:
    body = {"data": b"x"} if method == "PUT" else {}
    async with client.request(method, where, **body) as found:
        if found.status < 400:
            await found.read()
            return found.status, ""
        problem = await found.json(content_type="application/problem+json")
        return found.status, problem["type"].rpartition(":")[2]


async def test_a_root_moves_to_its_owner_and_back_while_everything_goes_on(
    stack: Stack, client: Client, keys: KeyServiceClient, owner: Owner, theirs: list[str]
) -> None:
    tenant = theirs.pop()
    await keys.control.settings(tenant, cache_ttl=0, reason=WHY)
    key = stack.home.parent / "brought.key"
    async with flowing(client, tenant) as traffic:
        await traffic.go_on()
        moved = await keys.control.move(tenant, "business", TenantRoot("held", "acme"), reason=WHY)
        assert moved.root == TenantRoot("held", "acme")
        await traffic.go_on()

        # The owner rotates where the key is, and the KEKs follow.
        newest = await asyncio.to_thread(owner.rotate)
        rewrapped = await keys.control.rewrap_root(tenant, reason=WHY)
        assert {kek.root_version for kek in rewrapped.keks} == {newest}
        await asyncio.to_thread(owner.disable_below, newest)
        await traffic.go_on()

        name = secrets.token_hex(4)
        await keys.control.move(tenant, "business", TenantRoot("own", name), reason=WHY)
        await traffic.go_on()

        # And a key that the customer brings, by the command, after which nothing of the owner is needed.
        await asyncio.to_thread(write_key, key, secrets.token_bytes(32))
        told = await asyncio.to_thread(
            stack.sealgate, "keys", "import", tenant, "--key-file", str(key), "--json"
        )
        assert '"supplied": true' in told
        await traffic.go_on()
        version = secrets.token_bytes(32)
        await keys.control.import_root(tenant, version, new_version=True, reason=WHY)
        await traffic.go_on()
    await asyncio.to_thread(owner.withdraw_policy)
    try:
        for reference in range(traffic.written):
            await traffic.whole(reference)
        assert await answer(client, "PUT", path(tenant, "after")) == (201, "")
    finally:
        await asyncio.to_thread(owner.return_policy)
    brought = await asyncio.to_thread(key.read_bytes)
    logs = await asyncio.to_thread(_everything_said, stack)
    assert not any(
        form in logs for form in (brought, brought.hex().encode(), base64.b64encode(brought))
    )


def write_key(path: Path, key: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key)


def _everything_said(stack: Stack) -> bytes:
    said = b""
    for file in stack.home.iterdir():
        with contextlib.suppress(FileNotFoundError):  # written anew while this looks
            said += file.read_bytes() if file.is_file() else b""
    return said


async def test_what_the_owner_withdraws_is_theirs_to_give_back(
    client: Client,
    theirs: list[str],
    keys: KeyServiceClient,
    owner: Owner,
    owners_vault: SealableVault,
) -> None:
    tenant, bystander = theirs.pop(), await client.create_tenant()
    await keys.control.move(tenant, "business", TenantRoot("held", "acme"), reason=WHY)
    await keys.control.settings(tenant, cache_ttl=0, reason=WHY)
    for each in (tenant, bystander):
        assert await answer(client, "PUT", path(each, "a")) == (201, "")

    acts = (
        (owner.withdraw_policy, owner.return_policy),
        (owners_vault.seal, owners_vault.open),
        (owner.revoke_login, owner.return_login),
    )
    for withdraw, give_back in acts:
        await asyncio.to_thread(withdraw)
        try:
            assert await answer(client, "GET", path(tenant, "a")) == WITHDRAWN
            assert await answer(client, "PUT", path(tenant, "b")) == WITHDRAWN
            assert await answer(client, "GET", path(bystander, "a")) == (200, "")
        finally:
            await asyncio.to_thread(give_back)
        assert await answer(client, "GET", path(tenant, "a")) == (200, "")
        assert await answer(client, "PUT", path(tenant, "a")) == (201, "")

    # A network that fails is nobody's act, and the answer says so; nobody else waits for it.
    owners_vault.pause()
    try:
        async with asyncio.TaskGroup() as tasks:
            many = [tasks.create_task(answer(client, "GET", path(tenant, "a"))) for _ in range(60)]
            await asyncio.sleep(0.2)
            assert await answer(client, "GET", path(bystander, "a")) == (200, "")
            assert not any(task.done() for task in many)
        assert {task.result() for task in many} == {(503, "keys-unavailable")}
    finally:
        owners_vault.resume()
    async with asyncio.timeout(60):  # it has a backlog to answer
        while (found := await answer(client, "GET", path(tenant, "a"))) != (200, ""):
            assert found == (503, "keys-unavailable")
            await asyncio.sleep(0.1)


async def test_what_is_cached_outlives_a_withdrawal_by_the_tenants_time_only(
    client: Client, keys: KeyServiceClient, owner: Owner, theirs: list[str]
) -> None:
    tenant = theirs.pop()
    await keys.control.move(tenant, "business", TenantRoot("held", "acme"), reason=WHY)
    await keys.control.settings(tenant, cache_ttl=2, reason=WHY)
    assert await answer(client, "PUT", path(tenant, "a")) == (201, "")
    assert await answer(client, "GET", path(tenant, "a")) == (200, "")
    await asyncio.to_thread(owner.withdraw_policy)
    try:
        until = asyncio.get_running_loop().time() + 30
        while (found := await answer(client, "GET", path(tenant, "a"))) != WITHDRAWN:
            assert found == (200, "")
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(owner.return_policy)
    assert await answer(client, "GET", path(tenant, "a")) == (200, "")


@pytest.mark.usefixtures("theirs")
async def test_a_move_to_a_vault_nobody_configured_changes_nothing(
    client: Client, keys: KeyServiceClient
) -> None:
    tenant = await client.create_tenant("business")
    before = await keys.tenant(tenant)
    with pytest.raises(Exception, match="no vault named nowhere is configured"):
        await keys.control.move(tenant, "business", TenantRoot("held", "nowhere"), reason=WHY)
    with pytest.raises(Exception, match="the vault named acme is for other tenants"):
        await keys.control.move(tenant, "business", TenantRoot("held", "acme"), reason=WHY)
    assert await keys.tenant(tenant) == before
    assert await answer(client, "PUT", path(tenant, "a")) == (201, "")
