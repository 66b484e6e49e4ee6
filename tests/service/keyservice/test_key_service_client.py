"""The client: what it repeats and what not, its deadline, and its short cache."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from keyservice.client.client import KeyServiceClient
from keyservice.errors import (
    Denied,
    Invalid,
    KeyServiceError,
    Suspended,
    Unavailable,
    UnknownTenant,
)
from keyservice.protocol.problems import to_problem
from keyservice.wire import MAX_BATCH, MAX_WRAPPED, DataKey, TenantRoot, WrappedKey
from keyservice.wiring.app import running
from tests.service.keyservice.conftest import Site
from tests.unit.keyservice.fakes import FakeClock

CALL = {"reason": "test", "request_id": "r-1"}
TENANT = "a" * 32
DEK = "RERERERERERERERERERERERERERERERERERERERERAA="
KEY = WrappedKey(b"wrapped", b"context")

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """A server that gives scripted answers, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []
        self.times: list[float] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer by the script."""
        self.requests.append(request.path)
        self.times.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncIterator[Script]:
    """Run a scripted server."""
    script = Script(*answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()


def failing(error: KeyServiceError) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        problem = to_problem(error)
        return web.Response(text=problem.model_dump_json(), status=problem.status)

    return answer


def plain(status: int, text: str = "<html>") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


async def opened(request: web.Request) -> web.StreamResponse:
    """Answer each item with one key."""
    items = [{"dek": DEK} for _ in (await request.json())["keys"]]
    return web.json_response({"items": items, "revision": 1, "fresh": 3600})


async def dropped(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hanging(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(60)
    return web.Response()


@pytest.mark.parametrize("trouble", [failing(Unavailable()), plain(502), plain(504), dropped])
async def test_what_may_succeed_is_repeated(trouble: Answer) -> None:
    async with scripted(trouble, trouble, opened) as script:
        async with KeyServiceClient(script.url) as client:
            assert len(await client.unwrap(TENANT, [KEY], **CALL)) == 1
        assert len(script.requests) == 3


async def test_an_attempt_that_hangs_is_repeated() -> None:
    async with (
        scripted(hanging, opened) as script,
        KeyServiceClient(script.url, timeout=60, attempt_timeout=1.0) as client,
    ):
        assert len(await client.unwrap(TENANT, [KEY], **CALL)) == 1


@pytest.mark.parametrize(
    "error",
    [kind("no") for kind in (Denied, UnknownTenant, Suspended, Invalid, KeyServiceError)],
)
async def test_a_definite_answer_is_not_repeated(error: KeyServiceError) -> None:
    async with scripted(failing(error)) as script:
        async with KeyServiceClient(script.url) as client:
            with pytest.raises(type(error)) as refused:
                await client.unwrap(TENANT, [KEY], **CALL)
        assert type(refused.value) is type(error)
        assert len(script.requests) == 1


async def test_attempts_are_bounded() -> None:
    async with scripted(failing(Unavailable("gone"))) as script:
        async with KeyServiceClient(script.url, attempts=3) as client:
            with pytest.raises(Unavailable, match="gone"):
                await client.status()
        assert len(script.requests) == 3


async def test_nothing_outlives_the_deadline() -> None:
    async with (
        scripted(hanging) as script,
        KeyServiceClient(script.url, timeout=0.3, attempt_timeout=60) as client,
    ):
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await client.status()
        assert time.monotonic() - started < 30


async def test_a_time_to_come_back_is_kept_or_given_on() -> None:
    async with scripted(failing(Unavailable("x", retry_after=0.3)), opened) as script:
        async with KeyServiceClient(script.url) as client:
            await client.unwrap(TENANT, [KEY], **CALL)
        assert script.times[1] - script.times[0] >= 0.3
    async with scripted(failing(Unavailable("x", retry_after=60))) as script:
        async with KeyServiceClient(script.url) as client:
            started = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                await client.status()
        assert time.monotonic() - started < 30
        assert refused.value.retry_after == 60
        assert len(script.requests) == 1


async def test_nobody_there_is_unavailable() -> None:
    async with KeyServiceClient("http://127.0.0.1:9", attempts=2) as client:
        with pytest.raises(Unavailable):
            await client.data_keys(TENANT, [b"c"], **CALL)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"items": []}', '{"items": [{}, {}]}', '{"items": [{"dek": "AA=="}]}']
)
async def test_an_answer_that_makes_no_sense_is_an_error_of_ours(text: str) -> None:
    async with scripted(plain(200, text)) as script, KeyServiceClient(script.url) as client:
        with pytest.raises(KeyServiceError) as failed:
            await client.unwrap(TENANT, [KEY], **CALL)
        assert type(failed.value) is KeyServiceError


async def test_an_empty_item_is_an_error_of_that_item() -> None:
    async with (
        scripted(plain(200, '{"items": [{}], "revision": 1, "fresh": 0}')) as script,
        KeyServiceClient(script.url) as client,
    ):
        found = await client.unwrap(TENANT, [KEY], **CALL)
        assert isinstance(found[0], KeyServiceError)
        assert len(client._cache) == 0


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyservice.client.transport.MAX_ANSWER", 1000)
    async with scripted(plain(200, " " * 100_000)) as script, KeyServiceClient(script.url) as c:
        with pytest.raises(KeyServiceError):
            await c.status()


async def test_a_redirect_is_not_followed() -> None:
    async def away(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:9/")

    async with scripted(away) as script, KeyServiceClient(script.url) as client:
        with pytest.raises(KeyServiceError, match="302"):
            await client.status()


@pytest.mark.parametrize("tenant", ["", "../status", "A" * 32, "a" * 31])
async def test_a_mistake_does_not_leave_the_process(tenant: str) -> None:
    async with scripted(opened) as script, KeyServiceClient(script.url) as client:
        with pytest.raises(Invalid):
            await client.unwrap(tenant, [KEY], **CALL)
        with pytest.raises(Invalid):
            await client.create_tenant(tenant)
        with pytest.raises(Invalid):
            await client.unwrap(TENANT, [KEY], reason="", request_id="r")
        with pytest.raises(Invalid):
            await client.unwrap(TENANT, [WrappedKey(b"", b"c")], **CALL)
        assert script.requests == []


async def test_the_cache_saves_requests_for_its_time_only() -> None:
    clock = FakeClock()
    async with (
        scripted(opened) as script,
        KeyServiceClient(script.url, cache_ttl=30, clock=clock) as client,
    ):
        for _ in range(3):
            await client.unwrap(TENANT, [KEY], **CALL)
        assert len(script.requests) == 1
        await client.unwrap("b" * 32, [KEY], **CALL)
        await client.unwrap(TENANT, [WrappedKey(b"wrapped", b"other")], **CALL)
        assert len(script.requests) == 3
        clock.now += 30
        await client.unwrap(TENANT, [KEY], **CALL)
        assert len(script.requests) == 4


async def test_only_what_is_missing_is_asked_for_and_the_order_kept() -> None:
    asked: list[int] = []

    async def numbered(request: web.Request) -> web.StreamResponse:
        keys = (await request.json())["keys"]
        asked.append(len(keys))
        items = [{"error": json.loads(to_problem(Invalid()).model_dump_json())}] * len(keys)
        return web.json_response({"items": items, "revision": 1, "fresh": 3600})

    other = WrappedKey(b"other", b"context")
    async with scripted(opened, numbered) as script, KeyServiceClient(script.url) as client:
        await client.unwrap(TENANT, [KEY], **CALL)
        for _ in range(2):  # an error is not kept
            found = await client.unwrap(TENANT, [other, KEY, other], **CALL)
            assert [isinstance(item, bytes) for item in found] == [False, True, False]
        assert asked == [2, 2]


async def test_a_refusal_drops_what_is_kept_of_the_tenant() -> None:
    other = WrappedKey(b"other", b"context")
    async with (
        scripted(opened, opened, failing(Suspended("no"))) as script,
        KeyServiceClient(script.url) as client,
    ):
        await client.unwrap(TENANT, [KEY], **CALL)
        await client.unwrap("b" * 32, [KEY], **CALL)
        with pytest.raises(Suspended):
            await client.unwrap(TENANT, [other], **CALL)
        with pytest.raises(Suspended):
            await client.unwrap(TENANT, [KEY], **CALL)
        assert isinstance((await client.unwrap("b" * 32, [KEY], **CALL))[0], bytes)


async def test_more_than_a_batch_is_split(site: Site, tenant: str) -> None:
    count = MAX_BATCH + 5
    contexts = [number.to_bytes(4, "big") for number in range(count)]
    async with running(site.settings()) as service, site.client(service.url) as client:
        await client.create_tenant(tenant, tier="business")
        made = await client.data_keys(tenant, contexts, **CALL)
        keys = [key for key in made if isinstance(key, DataKey)]
        assert len(keys) == count
        wrapped = [WrappedKey(k.wrapped, c) for k, c in zip(keys, contexts, strict=True)]
        assert await client.unwrap(tenant, wrapped, **CALL) == [key.dek for key in keys]
        assert await client.rewrap(tenant, wrapped, **CALL) == [key.wrapped for key in keys]
        assert await client.unwrap(tenant, [], **CALL) == []


async def test_what_many_requests_need_at_once_goes_together() -> None:
    keys = [WrappedKey(b"wrapped", b"context %d" % number) for number in range(40)]
    async with scripted(opened) as script, KeyServiceClient(script.url) as client:
        found = await asyncio.gather(*(client.unwrap(TENANT, [key], **CALL) for key in keys))
    assert len(found) == 40
    assert (
        len(script.requests) <= 4
    )  # two at once, and then all the rest, with one of the two or both


async def test_who_has_no_request_id_takes_nobody_along() -> None:
    async with scripted(opened) as script, KeyServiceClient(script.url) as client:

        async def one(number: int) -> object:
            key = WrappedKey(b"wrapped", b"context %d" % number)
            name = "" if number % 2 else f"r-{number}"
            return (await client.unwrap(TENANT, [key], reason="drill", request_id=name))[0]

        found = await asyncio.gather(*map(one, range(12)))
    assert all(isinstance(dek, bytes) for dek in found)


async def test_each_request_is_on_record_and_refused_by_itself_however_keys_travel(
    site: Site, tenant: str
) -> None:
    contexts = [f"c{number}".encode() for number in range(40)]
    async with running(site.settings()) as service, site.client(service.url) as client:
        await client.create_tenant(tenant)
        made = await client.data_keys(tenant, contexts, reason="upload", request_id="made")
        keys = [key for key in made if isinstance(key, DataKey)]
        asked = [WrappedKey(key.wrapped, c) for key, c in zip(keys, contexts, strict=True)]
        asked[7] = WrappedKey(asked[7].wrapped, b"another context")
        asked[8] = WrappedKey(asked[8].wrapped[:-1], b"c8")
        asked[9] = WrappedKey(b"no wrapped key at all", b"c9")
        asked[10] = WrappedKey(bytes(MAX_WRAPPED + 1), b"c10")

        async def one(number: int) -> bytes | KeyServiceError:
            found = client.unwrap(
                tenant, [asked[number]], reason="download", request_id=f"r-{number}"
            )
            try:
                return (await found)[0]
            except Invalid as error:  # what cannot be sent takes nobody along
                return error

        found = await asyncio.gather(*(one(number) for number in range(40)))
    bad = {7, 8, 9, 10}
    assert [number for number, dek in enumerate(found) if isinstance(dek, KeyServiceError)] == [
        *sorted(bad)
    ]
    assert all(found[n] == keys[n].dek for n in range(40) if n not in bad)
    lines = (await asyncio.to_thread((site.folder / "audit.jsonl").read_text)).splitlines()
    uses = [record for line in lines if (record := json.loads(line))["operation"] == "unwrap"]
    assert sorted(record["request_id"] for record in uses) == sorted(
        f"r-{number}" for number in range(40) if number != 10
    )
    assert all(record["count"] == 1 and record["reason"] == "download" for record in uses)
    refused = {record["request_id"] for record in uses if record["outcome"] == "cannot-unwrap"}
    assert refused == {"r-7", "r-8", "r-9"}


async def test_over_a_unix_socket(site: Site, tenant: str) -> None:
    settings = site.settings(listen={"unix_socket": site.folder / "s"})
    async with running(settings) as service:
        assert service.url == f"unix://{site.folder}/s"
        async with site.client(service.url) as client:
            await client.create_tenant(tenant)
            assert isinstance((await client.data_keys(tenant, [b"c"], **CALL))[0], DataKey)


async def test_a_closed_client_says_so() -> None:
    client = KeyServiceClient("http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="not open"):
        await client.status()
    with pytest.raises(ValueError, match="https"):
        async with KeyServiceClient("https://127.0.0.1:9"):
            pass


@pytest.mark.parametrize("url", ["http://keys.example:8443", "http://10.0.0.7", "ftp://localhost"])
async def test_keys_never_travel_in_the_clear(url: str) -> None:
    client = KeyServiceClient(url, token="hush" * 10)
    with pytest.raises(ValueError, match="https"):
        async with client:
            raise AssertionError("it connects")


async def test_a_tenants_state_is_what_is_on_record(site: Site, tenant: str) -> None:
    async with running(site.settings()) as service, site.client(service.url) as client:
        with pytest.raises(UnknownTenant):
            await client.tenant(tenant)
        await client.create_tenant(tenant)
        found = await client.tenant(tenant)
        assert (found.tier, found.state, found.revision) == ("standard", "active", 1)
        assert found.root == TenantRoot("shared")
        assert found.current is not None
        assert found.current.id.startswith(f"{tenant}/1-")
        with pytest.raises(Invalid):
            await client.tenant("../status")


async def test_a_state_of_another_tenant_is_not_believed() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        shown = {"tenant": "b" * 32, "tier": "standard", "state": "active", "revision": 1}
        root = {"custody": "shared"}
        return web.json_response({**shown, "cache_ttl": 1.0, "keks": [], "root": root})

    async with scripted(answer) as script, KeyServiceClient(script.url, token="t") as client:
        with pytest.raises(KeyServiceError, match="another tenant"):
            await client.tenant(TENANT)
