"""Probes, figures and logs: what they say, and what they never say."""

import asyncio
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.catalog.sql import SqlCatalog
from gateway.cli.worker import KINDS
from gateway.errors import CatalogUnavailable, StoreUnavailable
from gateway.http import health
from gateway.http.key_figures import FAILURES as PUSH_FAILURES
from gateway.http.key_figures import ROTATED
from gateway.http.metrics import STATES
from gateway.http.run_figures import ENDS
from gateway.repair.findings import Kind
from keyservice.wire import Status, Unavailable
from tests.service.http.application import Application
from tests.service.http.contract import DOCUMENT
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH", 0.0)
    monkeypatch.setattr(health, "LIMIT", 60.0)


async def _ready(client: Application) -> tuple[int, dict[str, str]]:
    answer = await client.get("/readyz")
    lines = answer.body.decode().splitlines()
    return answer.status, dict(line.split(": ", 1) for line in lines)


async def test_alive(site: Site) -> None:
    async with site.application(None) as anyone:
        answer = await anyone.get("/livez")

    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["Server"] == "sealgate"


async def test_ready_with_a_line_a_dependency(site: Site) -> None:
    async with site.application(None) as anyone:
        assert await _ready(anyone) == (
            200,
            {
                "catalog": "ok",
                "key service": "ok",
                "store primary": "ok",
                "store east": "ok",
                "store west": "ok",
            },
        )


async def test_ready_without_one_backup(site: Site, client: Application) -> None:
    site.stores["west"].faults.refuse = StoreUnavailable("gone")

    status, lines = await _ready(client)

    assert status == 200
    assert lines["store west"] == "failed (StoreUnavailable)"


async def test_not_ready_without_what_is_required(
    site: Site, client: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.stores["primary"].faults.refuse = StoreUnavailable("gone")
    assert (await _ready(client))[0] == 503
    site.mend()
    for name in ("east", "west"):
        site.stores[name].faults.refuse = StoreUnavailable("gone")
    assert (await _ready(client))[0] == 503
    site.mend()
    site.keys.refuse = Unavailable()
    status, lines = await _ready(client)
    assert (status, lines["key service"]) == (503, "failed (Unavailable)")
    site.mend()

    async def gone(*_: object) -> None:
        raise CatalogUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "_read", gone)
        status, lines = await _ready(client)
    assert (status, lines["catalog"]) == (503, "failed (CatalogUnavailable)")
    assert (await _ready(client))[0] == 200


async def test_not_ready_when_the_key_service_has_lost_its_root(
    site: Site, client: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sealed(_: object) -> Status:
        return Status("vault", healthy=False, detail="sealed")

    monkeypatch.setattr(type(site.keys), "status", sealed)

    assert (await _ready(client))[0] == 503


async def test_a_dependency_that_hangs_is_not_waited_for(
    site: Site, client: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(health, "LIMIT", 0.1)
    monkeypatch.setattr(type(site.stores["west"]), "check", hang)

    status, lines = await _ready(client)

    assert (status, lines["store primary"]) == (503, "no answer")


async def test_many_who_ask_cost_one_question(
    site: Site, client: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.get("/readyz")).status == 200
    monkeypatch.setattr(health, "FRESH", 300.0)
    site.mend()

    answers = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))

    assert {answer.status for answer in answers} == {200}
    assert site.stores["primary"].calls["check"] <= 1


ALLOWED = {
    "cap": {"all", "address"},
    "reason": {
        *("unavailable", "denied", "absent", "damaged"),
        *("target", "sources", "no-good-copy", "lease"),
        *PUSH_FAILURES,
    },
    "kind": {*(kind.value for kind in Kind), *KINDS},
    "end": set(ENDS),
    "state": set(STATES),
    "of": set(ROTATED),
    "outcome": {"done", "failed"},
    "method": {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "other"},
    "status": {"2xx", "3xx", "4xx", "5xx"},
    "subject": {"", "primary", "east", "west"},
    "target": {"primary", "east", "west"},
}


async def test_figures_have_few_labels_and_no_names(
    client: Application, tenant: str, path: str
) -> None:
    await client.stored(
        path + "-canary", b"12345", Content_Disposition="attachment; filename=canary"
    )
    await client.get(path + "-canary")
    for method in ("OPTIONS", "PROPFIND"):
        await client.send(method, path)

    answer = await client.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    assert "canary" not in text
    assert tenant not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for family in families.values():
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert label == "le" or value in ALLOWED[label], sample
    assert families["sealgate_http_requests_running"].samples[0].value == 1
    assert families["sealgate_received_bytes"].samples[0].value >= 5
    # Every series is there from the start.
    requests = {
        tuple(s.labels.values())
        for s in families["sealgate_http_requests"].samples
        if s.name.endswith("_total")
    }
    assert {(m, c) for m in ("GET", "PUT", "DELETE") for c in ALLOWED["status"]} <= requests


async def test_logs_hold_no_names_ids_or_tokens(
    site: Site,
    client: Application,
    tenant: str,
    log: list[object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    place = f"/v1/tenants/{tenant}/attachments/canary-id"
    fields = {
        "Content-Disposition": 'attachment; filename="canary-name"',
        "Content-Type": "text/x-canary",
        "X-Sealgate-Meta-Canary": "canary-value",
        "Idempotency-Key": "canary-key",
        "User-Agent": "canary-agent",
        "Cookie": "canary=1",
    }

    await client.put(place, b"canary content", fields)
    await client.put(place, b"canary other content", fields)
    await client.get(place)
    await client.get(f"/v1/tenants/{tenant}/attachments?prefix=canary")
    await client.get(f"{place}/canary/canary?canary")
    await client.put(place, b"x", {"Content-Disposition": "canary canary"})
    await client.put(place, b"x", {"Repr-Digest": "canary"})
    await client.send("DELETE", place)
    await client.send("GET", "/canary")
    for store in site.stores.values():
        store.faults.refuse_writes = StoreUnavailable("gone")
    await client.put(place, bytes(100_000))
    site.mend()
    async with site.application("canary-token") as stranger:
        await stranger.get(place)
    async with Wire(site.url) as wire:
        await wire.request(
            "PUT", place, f"Authorization: Bearer {client.token}", "Content-Length: 9"
        )
        await site.under_way()
        wire.abort()
    await site.settled()

    said = str(log) + caplog.text
    assert "canary" not in said.lower()
    assert client.token is not None
    assert client.token.split("_", 2)[2] not in said
    assert "{attachment" in said


async def test_a_record_a_request(
    client: Application, path: str, log: list[dict[str, object]]
) -> None:
    answer = await client.put(path, b"content", {"X-Request-Id": "my-own.1"})
    await client.send("OPTIONS", path)
    await client.get("/nowhere")

    records = [entry for entry in log if entry["event"] == "request" and "tenant" in entry]
    assert [(r["method"], r["status"], r["route"]) for r in records] == [
        ("PUT", 201, "/v1/tenants/{tenant}/attachments/{attachment}"),
        ("other", 405, None),
        ("GET", 404, None),
    ]
    assert answer.headers["X-Request-Id"] == records[0]["request_id"] == "my-own.1"
    assert json.dumps(records)


async def test_the_document_is_served(site: Site) -> None:
    async with site.application(None) as anyone:
        answer = await anyone.get("/openapi.json")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json == json.loads(json.dumps(DOCUMENT))


async def test_every_get_answers_head(client: Application, path: str) -> None:
    await client.stored(path, b"content")
    places = ["/livez", "/readyz", "/metrics", "/openapi.json", path.rpartition("/")[0]]

    for place in [*places, path, f"{path}/versions"]:
        whole, head = await client.get(place), await client.send("HEAD", place)
        assert head.status == whole.status == 200
        assert head.body == b""
        assert head.headers["Content-Type"] == whole.headers["Content-Type"]
