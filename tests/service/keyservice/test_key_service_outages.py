"""The whole service when its parts fail, over real sockets."""

import asyncio
import json
import os
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from keyservice.access.audit import TIMEOUT, Auditor
from keyservice.client.client import KeyServiceClient
from keyservice.errors import CannotUnwrap, Denied, Unavailable
from keyservice.keys.keyring import Keyring
from keyservice.wire import DataKey, WrappedKey
from keyservice.wiring.app import running
from tests.doubles.system import system_calls
from tests.service.keyservice.conftest import POLICY, Site, by_default
from tests.unit.keyservice.fakes import FakeClock

CALL = {"reason": "test", "request_id": "r-1"}


async def figure(url: str, name: str) -> float:
    """Return one figure of `/metrics`."""
    async with aiohttp.ClientSession() as session, session.get(url + "/metrics") as response:
        text = await response.text()
    line = next(line for line in text.splitlines() if line.startswith(name + " "))
    return float(line.rpartition(" ")[2])


async def until(url: str, name: str, value: float) -> None:
    """Wait until the figure has the value."""
    async with asyncio.timeout(60):
        while await figure(url, name) != value:  # noqa: ASYNC110 - a figure has to be polled
            await asyncio.sleep(0.05)


async def use_for_long(client: KeyServiceClient, tenant: str) -> None:
    """Ask for keys until that is refused."""
    async with asyncio.timeout(60):
        while True:
            await client.data_keys(tenant, [b"c"], **CALL)


async def test_a_stampede_of_a_thousand_makes_one_root_call(site: Site, tenant: str) -> None:
    async with running(site.settings()) as service, site.client(service.url) as client:
        await client.create_tenant(tenant)
        key = (await client.data_keys(tenant, [b"c"], **CALL))[0]
        assert isinstance(key, DataKey)
    pair = [WrappedKey(key.wrapped, b"c")] * 2  # one alone would go along with others
    async with running(site.settings()) as service:  # cold again
        options = {"cache_size": 0, "connections": 200, "timeout": 60, "attempt_timeout": 60}
        async with site.client(service.url, **options) as client:
            calls = (client.unwrap(tenant, pair, **CALL) for _ in range(1000))
            found = await asyncio.gather(*calls)
        name = 'sealgate_keyservice_root_calls_total{call="unwrap",outcome="ok"}'
        assert await figure(service.url, name) == 1
    assert all(answer == [key.dek] * 2 for answer in found)
    lines = (await asyncio.to_thread((site.folder / "audit.jsonl").read_text)).splitlines()
    assert sum(json.loads(line)["operation"] == "unwrap" for line in lines) >= 1000


async def test_while_the_root_is_gone_warm_tenants_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, cold, clock = "a" * 32, "b" * 32, FakeClock()
    by_default(monkeypatch, Keyring, clock=clock)
    settings = site.settings(cache={"standard_ttl": 2.0})
    async with (
        running(settings) as service,
        site.client(service.url, cache_size=0, attempts=1) as client,
        aiohttp.ClientSession() as session,
    ):
        for tenant in (cold, warm):
            await client.create_tenant(tenant)
        key = (await client.data_keys(warm, [b"c"], **CALL))[0]
        assert isinstance(key, DataKey)
        item = [WrappedKey(key.wrapped, b"c")]
        root = site.folder / "root.key"
        await asyncio.to_thread(root.rename, root.with_suffix(".away"))
        assert await client.unwrap(warm, item, **CALL) == [key.dek]
        with pytest.raises(Unavailable) as refused:
            await client.data_keys(cold, [b"c"], **CALL)
        assert refused.value.retry_after
        assert not (await client.status()).healthy
        async with session.get(service.url + "/readyz") as response:
            assert response.status == 200
            assert "root: degraded" in await response.text()
        clock.now += 2.1
        with pytest.raises(Unavailable):
            await client.unwrap(warm, item, **CALL)
        async with session.get(service.url + "/readyz") as response:
            assert response.status == 503
        await asyncio.to_thread(root.with_suffix(".away").rename, root)
        assert await client.unwrap(warm, item, **CALL) == [key.dek]


async def test_tenants_are_apart_over_the_wire(site: Site) -> None:
    one, other = "a" * 32, "b" * 32
    async with running(site.settings()) as service, site.client(service.url) as client:
        for tenant in (one, other):
            await client.create_tenant(tenant)
        key = (await client.data_keys(one, [b"c"], **CALL))[0]
        assert isinstance(key, DataKey)
        item = [WrappedKey(key.wrapped, b"c")]
        assert await client.unwrap(one, item, **CALL) == [key.dek]
        assert isinstance((await client.unwrap(other, item, **CALL))[0], CannotUnwrap)


async def test_an_audit_disk_that_hangs_refuses_within_a_second_or_so(
    site: Site, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_default(monkeypatch, Auditor, timeout=TIMEOUT)  # as it is shipped
    async with (
        running(site.settings()) as service,
        site.client(service.url, attempts=1) as client,
        site.client(service.url, attempts=100, timeout=100) as patient,
        aiohttp.ClientSession() as session,
    ):
        await patient.create_tenant(tenant)
        go, real = threading.Event(), os.fdatasync

        def hang(descriptor: int) -> None:
            go.wait(60)
            real(descriptor)

        system_calls(monkeypatch, "keyservice.access.audit_file", fdatasync=hang)
        started = time.monotonic()
        with pytest.raises(Unavailable) as refused:
            await client.data_keys(tenant, [b"c"], **CALL)
        assert 0.9 < time.monotonic() - started < 30
        assert refused.value.retry_after
        async with session.get(service.url + "/readyz") as response:
            assert response.status == 503
            assert "audit: failed" in await response.text()
        async with session.get(service.url + "/livez") as response:
            assert response.status == 200
        go.set()
        assert isinstance((await patient.data_keys(tenant, [b"c"], **CALL))[0], DataKey)


async def test_an_audit_disk_that_is_full_refuses(
    site: Site, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(site.settings()) as service, site.client(service.url, attempts=1) as client:
        await client.create_tenant(tenant)
        before = await asyncio.to_thread((site.folder / "audit.jsonl").read_bytes)
        with monkeypatch.context() as patch:

            def full(*_: object) -> int:
                raise OSError(28, "No space left on device")

            system_calls(patch, "keyservice.access.audit_file", pwrite=full)
            with pytest.raises(Unavailable):
                await client.data_keys(tenant, [b"c"], **CALL)
        assert await asyncio.to_thread((site.folder / "audit.jsonl").read_bytes) == before
        assert isinstance((await client.data_keys(tenant, [b"c"], **CALL))[0], DataKey)


async def rewrite(path: Path, text: str) -> None:
    """Replace a file as an editor does."""
    temporary = path.with_suffix(".new")
    await asyncio.to_thread(temporary.write_text, text)
    await asyncio.to_thread(temporary.rename, path)


async def test_a_policy_is_reloaded_without_a_restart(
    site: Site, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = site.folder / "policy.toml"
    monkeypatch.setattr("keyservice.access.policy_file.PolicyFile.watch.__defaults__", (0.05,))
    async with (
        running(site.tls_settings(probes={"port": 0})) as service,
        site.tls_client(service.url) as client,
    ):
        assert service.probes_url is not None
        failures = "sealgate_keyservice_policy_reload_failures_total"
        healthy = 'sealgate_keyservice_dependency_healthy{dependency="policy file"}'
        await client.create_tenant(tenant)
        await rewrite(policy, POLICY.replace("allow", "deny"))
        with pytest.raises(Denied):
            await use_for_long(client, tenant)
        await rewrite(policy, "[[rule")
        await until(service.probes_url, failures, 1)
        await until(service.probes_url, healthy, 0)
        with pytest.raises(Denied):
            await client.data_keys(tenant, [b"c"], **CALL)
        await rewrite(policy, POLICY)
        await service.reload()
        assert isinstance((await client.data_keys(tenant, [b"c"], **CALL))[0], DataKey)


async def test_what_was_accepted_is_answered_before_the_service_ends(
    site: Site, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, waiting, real = threading.Event(), threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        waiting.set()
        go.wait(0.4)
        real(descriptor)

    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(site.settings()))
        async with site.client(service.url, attempts=1) as client, asyncio.TaskGroup() as tasks:
            await client.create_tenant(tenant)
            system_calls(monkeypatch, "keyservice.access.audit_file", fdatasync=slow)
            asked = tasks.create_task(client.data_keys(tenant, [b"c"], **CALL))
            await asyncio.to_thread(waiting.wait, 60)
            await stack.aclose()
            assert service.health.draining
            assert isinstance((await asked)[0], DataKey)
        with pytest.raises(Unavailable):
            async with site.client(service.url, attempts=1) as client:
                await client.status()
