"""Rotations over Vault, S3 and a folder, while an application reads and writes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rotation.attachments import EACH, content, filled, get, keks, opened, put
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client
from tests.stack.forks import told
from tests.stack.stack import Bucket, Stack

PAUSE = 0.02


@pytest.fixture(scope="module")
def site(vault: Vault, s3: Versitygw, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack whose caches forget soon; the module shares it."""
    home = tmp_path_factory.mktemp("rotation")
    stack = Stack(
        home / "stack",
        targets={"primary": Bucket(s3, s3.new_bucket()), "east": home / "east"},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        vault=prepare(vault, home),
        forget=0.5,
        extra={"keyservice": {"cache_ttl": 0.5}, "repair": {"enabled": False}},
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def admin(site: Stack) -> str:
    return site.admin_token()


@pytest.fixture
async def client(site: Stack, admin: str) -> AsyncIterator[Client]:
    async with Client(site.url, admin) as application:
        yield application


async def kek(site: Stack, *words: str, code: int | tuple[int, ...] = 0) -> dict[str, Any]:
    config = site.home / "gateway.toml"
    return await asyncio.to_thread(told, config, "rotate", "kek", "--json", *words, code=code)


async def test_reads_and_writes_go_on_and_nothing_is_left(client: Client, site: Stack) -> None:
    tenant, names = await filled(client)
    rotating = asyncio.create_task(kek(site, "--tenant", tenant, code=(0, 3)))
    written = 0
    while not rotating.done():
        name = f"during-{written}"
        await put(client, tenant, name)
        names.append(name)
        for each in (name, names[written % EACH]):
            assert await get(client, tenant, each) == content(each)
        written += 1
        await asyncio.sleep(PAUSE)
    (outcome,) = (await rotating)["tenants"]
    current = {outcome["kek"]}
    assert outcome["rewrapped"] >= EACH
    if not outcome[
        "complete"
    ]:  # an upload took long on a busy machine: it is left to whoever finishes
        assert outcome["uploads"], outcome
        (outcome,) = (await kek(site, "--tenant", tenant, "--finish"))["tenants"]
    assert outcome["complete"], outcome
    assert await keks(site, tenant) == {"catalog": current, "primary": current, "east": current}
    for name in names:
        assert await get(client, tenant, name) == content(name)


async def test_a_target_that_goes_down_in_the_middle_is_finished_later(
    client: Client, site: Stack
) -> None:
    tenant, names = await filled(client)
    east = site.targets["east"]
    assert isinstance(east, Path)
    old = await keks(site, tenant)
    away = east.with_name("away")
    slow = site.home / "slow.toml"
    text = (site.home / "gateway.toml").read_text()
    slow.write_text(text + "[rotation]\nrequests_per_second = 8\n")
    words = ("rotate", "kek", "--json", "--tenant", tenant)
    rotating = asyncio.create_task(asyncio.to_thread(told, slow, *words, code=3))
    async with opened(site) as core:
        while not (await core.wraps.backlog("east")).copies:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(PAUSE)
    await asyncio.to_thread(east.rename, away)
    (outcome,) = (await rotating)["tenants"]
    assert not outcome["complete"]
    assert outcome["targets"]["east"]["away"]
    assert outcome["targets"]["east"]["stale"] > 0
    assert outcome["targets"]["primary"]["stale"] == 0
    for name in names:
        assert await get(client, tenant, name) == content(name)
    await asyncio.to_thread(away.rename, east)
    assert (await keks(site, tenant))["east"] & old["east"]
    (outcome,) = (await kek(site, "--tenant", tenant, "--finish"))["tenants"]
    current = {outcome["kek"]}
    assert (outcome["complete"], outcome["made"]) == (True, False)
    assert await keks(site, tenant) == {"catalog": current, "primary": current, "east": current}
    for name in names:
        assert await get(client, tenant, name) == content(name)


async def test_roots_are_rotated_under_everything(client: Client, site: Stack) -> None:
    standard, names = await filled(client)
    business, _ = await filled(client, "business")
    config = site.home / "gateway.toml"

    async def root(*words: str, code: int = 0) -> dict[str, Any]:
        return await asyncio.to_thread(told, config, "rotate", "root", "--json", *words, code=code)

    before = await root("--all", "--dry-run")
    assert business in {each["tenant"] for each in before["tenants"]}
    shared = await root("--shared")
    assert shared["shared"]["complete"], shared
    assert shared["shared"]["latest"] == before["shared"]["latest"] + 1
    own = await root("--tenant", business)
    assert own["tenants"] == [{"tenant": business, "done": "rotated", "error": None}]
    refused = await root("--tenant", standard, code=1)
    assert "shares its root" in refused["tenants"][0]["error"]
    async with opened(site) as core:
        for tenant, version in ((standard, shared["shared"]["latest"]), (business, 2)):
            found = await core.keys.control.tenant(tenant)
            assert {each.root_version for each in found.keks} == {version}
    await asyncio.sleep(1.5)  # until no cache knows the KEKs any more
    for tenant in (standard, business):
        for name in names:
            assert await get(client, tenant, name) == content(name)


async def test_a_tenant_that_is_suspended_is_refused_by_that_word(
    client: Client, site: Stack
) -> None:
    stuck, names = await filled(client)
    other = await client.create_tenant()
    async with opened(site) as core:
        await core.keys.control.suspend(stuck, reason="test")
        found = await kek(site, "--tenant", stuck, "--tenant", other, code=1)
        outcomes = {each["tenant"]: each for each in found["tenants"]}
        assert outcomes[stuck]["error"]["code"] == "suspended"
        assert outcomes[other]["complete"]
        refused = await kek(site, "--tenant", stuck, "--dry-run", code=1)
        assert refused["refused"][stuck].startswith("suspended")
        await core.keys.control.resume(stuck, reason="test")
    (outcome,) = (await kek(site, "--attachment", f"{stuck}/{names[3]}"))["tenants"]
    assert (outcome["complete"], outcome["rewrapped"]) == (True, 1)
    plans = {each["tenant"]: each for each in (await kek(site, "--all", "--dry-run"))["tenants"]}
    assert (plans[stuck]["envelopes"], plans[other]["envelopes"]) == (len(names), 0)
    (outcome,) = (await kek(site, "--tenant", stuck, "--finish"))["tenants"]
    assert (outcome["complete"], outcome["rewrapped"]) == (True, len(names) - 1)
    assert await get(client, stuck, names[0]) == content(names[0])
