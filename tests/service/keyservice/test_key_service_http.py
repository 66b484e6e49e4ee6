"""The API as a stranger with curl sees it."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from keyservice.health import FRESH_FOR, Health
from keyservice.http.asked import MAX_BODY
from keyservice.protocol.problems import PREFIX
from keyservice.wire import MAX_BATCH
from keyservice.wiring.app import Running, running
from tests.service.keyservice.conftest import Site, by_default
from tests.unit.keyservice.fakes import FakeClock

CONTEXT = "Y29udGV4dA=="


class Caller:
    """A service and a session that calls it."""

    def __init__(self, service: Running, session: aiohttp.ClientSession) -> None:
        self.service = service
        self.session = session

    async def ask(
        self, method: str, path: str, body: object = None, **options: Any
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        """Send a request; return status, JSON and the response."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = None if body is None else io.BytesIO(content)
        async with self.session.request(
            method, self.service.url + path, data=data, **options
        ) as response:
            return response.status, await response.json(content_type=None), response


@pytest.fixture
async def caller(site: Site, tenant: str) -> AsyncIterator[Caller]:
    """Give a caller with the token, to a service that has the tenant."""
    headers = {"Authorization": f"Bearer {site.token}"}
    async with (
        running(site.settings()) as service,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        caller = Caller(service, session)
        await caller.ask("POST", "/v1/tenants", {"tenant": tenant})
        yield caller


async def test_the_life_of_a_key(caller: Caller, tenant: str) -> None:
    path = f"/v1/tenants/{tenant}"
    status, made, response = await caller.ask(
        "POST", f"{path}/data-keys", {"reason": "upload", "contexts": [CONTEXT]}
    )
    assert status == 200
    assert response.headers["Cache-Control"] == "no-store"
    item = made["items"][0]
    assert set(item) == {"dek", "wrapped", "kek"}
    assert item["kek"].startswith(tenant)
    key = {"wrapped": item["wrapped"], "context": CONTEXT}
    bad = {"wrapped": item["wrapped"], "context": "AAAA"}
    body = {"reason": "download", "keys": [key, bad]}
    status, opened, _ = await caller.ask("POST", f"{path}/unwrap", body)
    assert status == 200
    assert opened["items"][0] == {"dek": item["dek"]}
    assert opened["items"][1]["error"]["type"] == PREFIX + "cannot-unwrap"
    status, moved, _ = await caller.ask("POST", f"{path}/rewrap", body)
    assert moved["items"][0] == {"wrapped": item["wrapped"]}
    assert item["dek"] not in json.dumps(moved)


async def test_a_tenant_is_created_once(caller: Caller, tenant: str) -> None:
    assert (await caller.ask("POST", "/v1/tenants", {"tenant": tenant}))[0] == 200
    other = {"tenant": "b" * 32, "tier": "business"}
    assert (await caller.ask("POST", "/v1/tenants", other))[0] == 201
    status, problem, _ = await caller.ask("POST", "/v1/tenants", {"tenant": "b" * 32})
    assert (status, problem["type"]) == (400, PREFIX + "invalid")
    status, view, _ = await caller.ask("GET", f"/v1/tenants/{'b' * 32}")
    assert (status, view["tier"], view["state"]) == (200, "business", "active")
    assert set(view["keks"][0]) == {"id", "state", "created", "root_version", "last_used"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/v1/nothing", None, 404, "http"),
        ("PUT", "/v1/tenants", {}, 405, "http"),
        ("POST", "/v1/tenants", b"", 400, "invalid"),
        ("POST", "/v1/tenants", {"tenant": "x"}, 400, "invalid"),
        ("POST", "/v1/tenants", {"tenant": "b" * 32, "tier": "gold"}, 400, "invalid"),
        ("POST", "/v1/tenants", b"x" * (MAX_BODY + 1), 413, "too-large"),
        ("GET", "/v1/tenants/X", None, 400, "invalid"),
        ("GET", f"/v1/tenants/{'c' * 32}", None, 404, "unknown-tenant"),
        ("POST", f"/v1/tenants/{'c' * 32}/unwrap", b"{", 400, "invalid"),
        (
            "POST",
            f"/v1/tenants/{'c' * 32}/data-keys",
            {"reason": "r", "contexts": [CONTEXT]},
            404,
            "unknown-tenant",
        ),
        (
            "POST",
            f"/v1/tenants/{'c' * 32}/data-keys",
            {"reason": "r", "contexts": [CONTEXT] * (MAX_BATCH + 1)},
            400,
            "invalid",
        ),
    ],
)
async def test_every_refusal_is_a_problem(
    *, caller: Caller, method: str, path: str, body: object, status: int, kind: str
) -> None:
    found, problem, response = await caller.ask(method, path, body)
    assert (found, problem["status"], problem["type"]) == (status, status, PREFIX + kind)
    assert response.content_type == "application/problem+json"
    assert response.headers["X-Request-Id"]


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic eDp5"])
async def test_without_the_token_there_is_only_health(
    caller: Caller, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        stranger = Caller(caller.service, session)
        status, problem, _ = await stranger.ask("GET", "/v1/status")
        assert (status, problem["type"]) == (401, PREFIX + "unauthenticated")
        assert (await stranger.ask("GET", "/v1/nothing"))[0] == 401
        async with session.get(caller.service.url + "/livez") as response:
            assert (response.status, await response.text()) == (200, "ok\n")


async def test_the_request_id_is_the_callers_when_it_is_one(caller: Caller) -> None:
    headers = {"X-Request-Id": "abc-1"}
    _, _, response = await caller.ask("GET", "/v1/status", headers=headers)
    assert response.headers["X-Request-Id"] == "abc-1"
    for bad in ("a b", "x" * 65, 'a"b', "é"):
        status, _, response = await caller.ask("GET", "/v1/status", headers={"X-Request-Id": bad})
        assert status == 400
        assert response.headers["X-Request-Id"] != bad


async def test_a_refused_request_is_on_record(site: Site, caller: Caller, tenant: str) -> None:
    await caller.ask("POST", f"/v1/tenants/{tenant}/unwrap", b"{")
    lines = await asyncio.to_thread((site.folder / "audit.jsonl").read_text)
    last = json.loads(lines.splitlines()[-1])
    assert (last["operation"], last["outcome"], last["tenant"]) == ("unwrap", "invalid", tenant)


@pytest.mark.parametrize(
    ("path", "named", "operation"),
    [
        (f"/v1/tenants/{'e' * 32}/unwrap", "e" * 32, "unwrap"),
        ("/v1/tenants/NOT-ONE/data-keys", "", "data-keys"),
        ("/v1/tenants", "", "create-tenant"),
        ("/v1/nothing", "", ""),
    ],
)
@pytest.mark.parametrize(
    ("headers", "caller_name", "outcome"),
    [
        ({"Authorization": "Bearer wrong"}, "", "unauthenticated"),
        ({"X-Request-Id": "a b"}, "token:development", "invalid"),
    ],
)
async def test_who_is_turned_away_at_the_door_is_on_record(
    *,
    site: Site,
    caller: Caller,
    path: str,
    named: str,
    operation: str,
    headers: dict[str, str],
    caller_name: str,
    outcome: str,
) -> None:
    status, _, response = await caller.ask("POST", path, {}, headers=headers)
    assert status in {400, 401}
    lines = await asyncio.to_thread((site.folder / "audit.jsonl").read_text)
    last = json.loads(lines.splitlines()[-1])
    assert (last["caller"], last["outcome"]) == (caller_name, outcome)
    assert (last["operation"], last["tenant"]) == (operation, named)
    assert last["request_id"] == response.headers["X-Request-Id"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Let the health of services that start now go by this clock."""
    made = FakeClock()
    by_default(monkeypatch, Health, clock=made)
    return made


async def test_status_asks_the_root_no_more_often_than_readiness_does(
    site: Site, clock: FakeClock, caller: Caller
) -> None:
    assert (await caller.ask("GET", "/v1/status"))[1]["healthy"]
    await asyncio.to_thread((site.folder / "root.key").unlink)
    assert (await caller.ask("GET", "/v1/status"))[1]["healthy"]
    clock.now += FRESH_FOR
    assert not (await caller.ask("GET", "/v1/status"))[1]["healthy"]


async def test_readiness_and_figures(caller: Caller) -> None:
    async with caller.session.get(caller.service.url + "/readyz") as response:
        lines = (await response.text()).splitlines()
    assert response.status == 200
    names = [line.partition(":")[0] for line in lines]
    assert names == ["audit", "policy", "root", "key store"]
    async with caller.session.get(caller.service.url + "/metrics") as response:
        figures = await response.text()
    prefix = "sealgate_keyservice_"
    assert f'{prefix}requests_total{{operation="create-tenant",outcome="ok"}} 1.0' in figures
    assert f'{prefix}requests_total{{operation="unwrap",outcome="denied"}} 0.0' in figures
    assert f'{prefix}root_calls_total{{call="wrap",outcome="ok"}} 1.0' in figures
    assert f'{prefix}dependency_healthy{{dependency="root"}} 1.0' in figures


async def test_a_body_that_never_ends_is_cut_off(
    caller: Caller, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyservice.http.asked.BODY_TIMEOUT", 0.2)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(100)

    async with asyncio.timeout(60):
        async with caller.session.post(
            f"{caller.service.url}/v1/tenants/{tenant}/unwrap", data=slowly()
        ) as response:
            assert response.status == 400


async def test_probes_have_a_listener_of_their_own(site: Site) -> None:
    settings = site.tls_settings(probes={"port": 0})
    async with running(settings) as service, aiohttp.ClientSession() as session:
        assert service.probes_url is not None
        for path in ("/livez", "/readyz", "/metrics"):
            async with session.get(service.probes_url + path) as response:
                assert response.status == 200
        async with session.get(service.probes_url + "/v1/status") as response:
            assert response.status == 404
