"""What holds for a tenant: seen and changed over HTTP, a part at a time."""

import json
from typing import Any

import pytest

from gateway.http.metrics import METHODS
from gateway.http.server import ROUTES
from tests.service.http.application import Answer, Application

pytestmark = pytest.mark.asyncio(loop_scope="session")
DEFAULT = {
    "quorum": None,
    "retention": {"trash_days": 30, "keep_versions": None, "keep_days": None, "hold_until": None},
    "rotation": {"kek_every_seconds": None, "root_every_seconds": None},
}


def _terms(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return {name: answer.json[name] for name in DEFAULT}


async def _patch(admin: Application, tenant: str, body: object) -> Answer:
    return await admin.send("PATCH", f"/v1/tenants/{tenant}", data=json.dumps(body).encode())


async def test_what_is_not_named_stays(admin: Application, tenant: str) -> None:
    assert _terms(await admin.get(f"/v1/tenants/{tenant}")) == DEFAULT
    assert _terms(await _patch(admin, tenant, {})) == DEFAULT
    day = 86_400
    for body in (
        {"quorum": "primary+1"},
        {"retention": {"trash_days": 90}},
        {"retention": {"keep_versions": 3, "hold_until": "2999-01-01T00:00:00+00:00"}},
        {"rotation": {"kek_every_seconds": 90 * day}, "retention": {"keep_days": 365}},
    ):
        answer = await _patch(admin, tenant, body)
        assert answer.status == 200, answer.body
    wanted = {
        "quorum": "primary+1",
        "retention": {
            "trash_days": 90,
            "keep_versions": 3,
            "keep_days": 365,
            "hold_until": "2999-01-01T00:00:00+00:00",
        },
        "rotation": {"kek_every_seconds": 90 * day, "root_every_seconds": None},
    }
    assert _terms(await admin.get(f"/v1/tenants/{tenant}")) == wanted
    kept = await admin.get(f"/v1/tenants/{tenant}/retention")
    assert kept.json == wanted["retention"]
    back = {
        "quorum": None,
        "retention": dict.fromkeys(("trash_days", "keep_versions", "keep_days", "hold_until")),
        "rotation": {"kek_every_seconds": None, "root_every_seconds": 0},
    }
    never = {"kek_every_seconds": None, "root_every_seconds": 0}
    assert _terms(await _patch(admin, tenant, back)) == {**DEFAULT, "rotation": never}


async def test_a_policy_that_it_got_counts(
    admin: Application, client: Application, tenant: str, path: str
) -> None:
    """Uploads are judged by it: of three targets all hold what is acknowledged."""
    await _patch(admin, tenant, {"quorum": "all"})
    assert (await client.stored(path, b"x" * 100_000))["degraded"] is False
    assert (await client.stored(path, b"x" * 100_000))["stored"] == ["east", "primary", "west"]


@pytest.mark.parametrize(
    "body",
    [
        {"quorum": "primary+9"},
        {"quorum": "most"},
        {"quorum": 2},
        {"retention": {"trash_days": 29}},
        {"retention": None},
        {"retention": {"hold_until": "9999-12-31T23:59:59-14:00"}},
        {"retention": {"hold_until": "2999-01-01T00:00:00"}},
        {"retention": {"trash": 30}},
        {"rotation": {"kek_every_seconds": -1}},
        {"rotation": {"kek_every_seconds": 5 * 10**9}},
        {"rotation": {"kek_every_seconds": "90d"}},
        {"rotation": []},
        {"tier": "business"},
        [],
    ],
    ids=json.dumps,
)
async def test_what_cannot_be_changes_nothing(
    admin: Application, tenant: str, body: dict[str, Any] | list[Any]
) -> None:
    if isinstance(body, dict):
        good = {"quorum": "all", "retention": {"trash_days": 60}}
        body = {**good, **body}
    answer = await _patch(admin, tenant, body)
    assert (answer.status, answer.problem) == (400, "invalid-request")
    assert _terms(await admin.get(f"/v1/tenants/{tenant}")) == DEFAULT


async def test_a_tenants_own_administrator_only_looks(client: Application, tenant: str) -> None:
    assert (await client.get(f"/v1/tenants/{tenant}")).status == 200
    answer = await _patch(client, tenant, {"retention": {"trash_days": 60}})
    assert (answer.status, answer.problem) == (403, "forbidden")


async def test_its_method_is_counted_by_name() -> None:
    assert {method for method, _, _ in ROUTES} <= set(METHODS)
