"""An administrator at work while an application is: suspension under load, and a KEK that goes for good."""

import asyncio
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from keyservice.client.client import KeyServiceClient
from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.stack.client import Client
from tests.stack.forks import told
from tests.stack.stack import Stack, answers

TTL = 2.0
WORKERS = 3  # of each kind
KINDS = (
    ("read", "GET", "/attachments/read"),
    ("store", "PUT", "/attachments/{}-{}"),
    ("list", "GET", "/attachments?limit=1"),
    ("versions", "GET", "/attachments/read/versions"),
)


@pytest.fixture(scope="module")
def stack(vault: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack on Vault, folders and SQLite; the module shares it."""
    home = tmp_path_factory.mktemp("administered")
    made = Stack(
        home,
        targets={name: home / name for name in ("primary", "east")},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        vault=prepare(vault, home),
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    return stack.admin_token()


@pytest.fixture
async def client(stack: Stack, token: str) -> AsyncIterator[Client]:
    async with Client(stack.url, token) as application:
        yield application


@pytest.fixture
def other_keys(stack: Stack) -> Iterator[str]:
    """Run a second instance of the key service, on the same Vault; give its URL."""
    ports = [free_port(), free_port()]
    text = (stack.home / "keyservice.toml").read_text()
    for old, new in zip(_ports(text), ports, strict=True):
        text = text.replace(f"port = {old}", f"port = {new}")
    config = stack.home / "other.toml"
    config.write_text(text.replace("audit.jsonl", "other-audit.jsonl"))
    daemon = Daemon(
        [sys.executable, "-m", "keyservice", "serve", "--config", str(config)],
        log=stack.home / "other.log",
        ready=lambda: answers(f"http://{LOOPBACK}:{ports[1]}/livez"),
        env=stack.environment,
    )
    daemon.start()
    yield f"https://{LOOPBACK}:{ports[0]}"
    daemon.stop()


def _ports(text: str) -> list[str]:
    return [line.removeprefix("port = ") for line in text.splitlines() if line.startswith("port")]


def _identity(stack: Stack) -> dict[str, Any]:
    certs = stack.home / "certs"
    return {
        "ca_file": certs / "ca.crt",
        "certificate": certs / "gateway.crt",
        "private_key": certs / "gateway.key",
    }


@dataclass
class Load:
    """Requests of several kinds, again and again, and when those that succeeded had begun."""

    client: Client
    tenant: str
    stopped: bool = False
    last: dict[str, float] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    warm: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, kind: str, method: str, place: str) -> None:
        number = 0
        while not self.stopped:
            number += 1
            began = time.monotonic()
            where = f"/v1/tenants/{self.tenant}{place.format(number)}"
            body = {"data": b"x" * 100} if method == "PUT" else {}
            async with self.client.request(method, where, **body) as answer:
                content = await answer.read()
                if answer.status < 300:
                    self.last[kind] = began
                    if len(self.last) == len(KINDS):
                        self.warm.set()
                else:
                    self.refusals[json.loads(content)["type"].rpartition(":")[2]] += 1


async def test_a_suspension_holds_within_the_tenants_time_under_load(
    stack: Stack,
    client: Client,
    other_keys: str,
    record_property: Callable[[str, object], None],
) -> None:
    tenant = await client.create_tenant("business")
    async with KeyServiceClient(other_keys, **_identity(stack)) as admin:
        # Before anybody has cached the time that it had.
        await admin.control.settings(tenant, cache_ttl=TTL, reason="test")
        await client.json("PUT", f"/v1/tenants/{tenant}/attachments/read", data=b"content")
        load = Load(client, tenant)
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                for kind, method, place in KINDS:
                    group.create_task(load.run(kind, method, place.replace("{}", f"{number}", 1)))
            await load.warm.wait()
            assert not load.refusals
            await admin.control.suspend(tenant, reason="test")
            suspended = time.monotonic()
            await asyncio.sleep(TTL + 1.0)
            async with asyncio.timeout(60):
                while not load.refusals:  # noqa: ASYNC110 - it is several tasks' to count
                    await asyncio.sleep(0.1)
            load.stopped = True
        late = {kind: began - suspended for kind, began in load.last.items()}
        record_property(
            "suspension held after, in seconds", {k: round(v, 3) for k, v in late.items()}
        )
        # Whatever began later than that was refused: no clock of two machines is compared.
        assert max(late.values()) <= TTL
        assert set(load.refusals) == {"tenant-suspended"}

        await admin.control.resume(tenant, reason="test")
        # A refusal is not kept: it is over at once.
        async with client.request("GET", f"/v1/tenants/{tenant}/attachments/read") as answer:
            assert await answer.read() == b"content"


async def test_a_kek_is_rotated_and_retired_while_all_stays_readable(
    stack: Stack, client: Client
) -> None:
    def sealgate(*words: str) -> dict[str, object]:
        shown: dict[str, object] = json.loads(stack.sealgate(*words, "--json"))
        return shown

    tenant = await client.create_tenant("business")
    await asyncio.to_thread(sealgate, "keys", "settings", tenant, "--cache-ttl", "0")
    bodies = {"small": b"s" * 10, "large": b"l" * 200_000}
    for name, body in bodies.items():
        await client.json("PUT", f"/v1/tenants/{tenant}/attachments/{name}", data=body)
    old = (await asyncio.to_thread(sealgate, "keys", "status", "--tenant", tenant))["keks"]

    await asyncio.to_thread(stack.sealgate, "rotate", "kek", "--tenant", tenant)
    words = ("keys", "retire", tenant, "--all-old")
    retired = await asyncio.to_thread(sealgate, *words)

    assert isinstance(old, list)
    assert retired["retired"] == [old[0]["id"]]
    status = await asyncio.to_thread(sealgate, "keys", "status", "--tenant", tenant)
    keks = status["keks"]
    assert isinstance(keks, list)
    assert [(kek["state"], kek["versions"]) for kek in keks] == [("destroyed", 0), ("current", 2)]
    for name, body in bodies.items():
        async with client.request("GET", f"/v1/tenants/{tenant}/attachments/{name}") as answer:
            assert await answer.read() == body


async def test_what_the_runbooks_have_an_administrator_do_by_command(
    stack: Stack, client: Client
) -> None:
    def keys(*words: str) -> dict[str, Any]:
        return told(stack.home / "gateway.toml", "keys", *words, "--json")

    tenant = await client.create_tenant("business")
    place = f"/v1/tenants/{tenant}/attachments/a"

    async def answer() -> tuple[int, str]:
        async with client.request("GET", place) as got:
            body = await got.read()
        ok = got.status == 200 and body == b"content"
        return got.status, "" if ok else json.loads(body)["type"].rpartition(":")[2]

    # With a cache time of 0 all of it holds at the next request.
    await asyncio.to_thread(keys, "settings", tenant, "--cache-ttl", "0")
    await client.json("PUT", place, data=b"content")
    because = ("--reason", "case 4711")
    suspended = await asyncio.to_thread(keys, "suspend", tenant, *because)
    assert suspended["state"] == "suspended"
    assert await answer() == (403, "tenant-suspended")
    resumed = await asyncio.to_thread(keys, "resume", tenant, *because)
    assert resumed["state"] == "active"
    assert await answer() == (200, "")

    await asyncio.to_thread(_write_back, stack, tenant)
    assert await answer() == (503, "keys-altered")
    revision = ("--revision", str(resumed["revision"]))
    mended = await asyncio.to_thread(keys, "mend", tenant, *revision, *because)
    assert mended["state"] == "active"
    assert await answer() == (200, "")

    (left,) = (await asyncio.to_thread(keys, "move", tenant, "--to-own"))["left"]
    words = ("destroy-root", tenant, left, *because, "--confirm", tenant)
    assert (await asyncio.to_thread(keys, *words))["left"] == []
    assert await answer() == (200, "")


def _write_back(stack: Stack, tenant: str) -> None:
    """Write the record of before the newest one over it, as `vault kv rollback` does."""
    assert stack.vault is not None
    place = {"path": f"tenants/{tenant}", "mount_point": stack.vault.setup.kv_mount}
    with stack.vault.server.client() as vault:
        records = vault.secrets.kv.v2
        read = functools.partial(records.read_secret_version, raise_on_deleted_version=True)
        newest = read(**place)["data"]["metadata"]["version"]
        older = read(**place, version=newest - 1)["data"]["data"]
        records.create_or_update_secret(**place, secret=older, cas=newest)


async def test_moved_between_tiers_everything_stays_readable(stack: Stack, client: Client) -> None:
    tenant = await client.create_tenant()
    place = f"/v1/tenants/{tenant}/attachments/a"
    await client.json("PUT", place, data=b"content")
    for tier in ("business", "standard"):
        await asyncio.to_thread(stack.sealgate, "keys", "move", tenant, "--tier", tier)
        assert (await client.json("GET", f"/v1/tenants/{tenant}"))["tier"] == tier
        async with client.request("GET", place) as answer:
            assert await answer.read() == b"content"
