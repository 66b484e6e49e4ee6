"""A tenant whose keys may not be used: every route that tells or changes what it stores says why."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.http.server import ROUTES
from keyservice import wire as keys
from keyservice.wire import KeyServiceError
from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATES = [
    (keys.Suspended(), 403, "tenant-suspended"),
    (keys.SuspendedByOwner(), 403, "suspended-by-owner"),
    (keys.Shredding(), 403, "tenant-shredding"),
    (keys.Shredded(), 410, "tenant-shredded"),
]
OPEN = {  # of tenants, and without what they store: an operator needs them all the more
    ("GET", "/v1/tenants/{tenant}"),
    ("PATCH", "/v1/tenants/{tenant}"),
    ("POST", "/v1/tenants/{tenant}/tokens"),
    ("GET", "/v1/tenants/{tenant}/tokens"),
    ("DELETE", "/v1/tenants/{tenant}/tokens/{token}"),
    ("GET", "/v1/tenants/{tenant}/retention"),
    ("PUT", "/v1/tenants/{tenant}/retention"),
}


async def _refusals(client: Application) -> dict[str, float]:
    text = (await client.get("/metrics")).body.decode()
    return {
        sample.labels["state"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "sealgate_tenant_refusals_total"
    }


@pytest.mark.parametrize("case", STATES, ids=lambda case: case[0].code)
async def test_every_route_tells_it(
    site: Site, client: Application, tenant: str, path: str, case: tuple[KeyServiceError, int, str]
) -> None:
    error, status, slug = case
    stored = await client.stored(path, b"content")
    await client.stored(f"{path}-gone", b"content")
    await client.send("DELETE", f"{path}-gone")
    (trashed,) = (await client.get(f"/v1/tenants/{tenant}/trash")).json["trash"]
    before, walked = await _refusals(client), 0
    site.keys.refuse = error

    requests: list[tuple[str, str, dict[str, str]]] = [
        (method, route, {})
        for method, route, _ in ROUTES
        if "{tenant}" in route and (method, route) not in OPEN
    ]
    routes = dict.fromkeys(("GET", "HEAD"), "/v1/tenants/{tenant}/attachments/{attachment:[^/]+}")
    for fields in (
        {"Range": "bytes=1-2"},
        {"If-None-Match": f'"{stored["version"]}"'},
        {"Range": "bytes=100-"},
    ):
        requests += [(method, route, fields) for method, route in routes.items()]
    for method, route, fields in requests:
        place = route.replace("{tenant}", tenant).replace("{attachment:[^/]+}", "one")
        place = place.replace("{trashed}", trashed["trashed"])
        body = {"data": b"more"} if method in {"PUT", "POST"} else {}
        answer = await client.send(method, place, fields, **body)
        assert answer.status == status, (method, place, answer.body)
        if method != "HEAD":
            assert answer.problem == slug
        walked += 1

    for absent in (
        f"{path}-never",
        f"{path}-never/versions",
        f"{path.rpartition('/')[0]}?names=false",
    ):
        assert (await client.get(absent)).problem == slug
        walked += 1
    site.mend()
    after = await _refusals(client)
    assert after[error.code] - before[error.code] == walked
    assert (await client.get(path)).body == b"content"
    assert {
        row["trashed"] for row in (await client.get(f"/v1/tenants/{tenant}/trash")).json["trash"]
    }


async def test_in_an_outage_who_was_refused_stays_refused(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, b"content")
    site.keys.refuse = keys.Suspended()
    assert (await client.get(f"{path}/versions")).problem == "tenant-suspended"
    site.keys.refuse = keys.Unavailable()
    assert (await client.get(f"{path}/versions")).problem == "tenant-suspended"
    site.mend()


async def test_in_an_outage_who_was_not_is_served_what_needs_no_key(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, b"content")
    site.keys.refuse = keys.Unavailable()
    assert (await client.get(f"{path}/versions")).status == 200
    assert (await client.get(path)).problem == "keys-unavailable"
    assert (await client.send("DELETE", path)).status == 204
