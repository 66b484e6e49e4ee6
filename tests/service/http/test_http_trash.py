"""The trash over HTTP: what was deleted is listed, comes back as it was, or is purged on demand."""

from typing import Any

import pytest

from gateway.model import Right
from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
HOLD = b'{"hold_until": "2100-01-01T00:00:00+00:00"}'


async def _trash(client: Application, tenant: str, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/tenants/{tenant}/trash{query}")
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json["trash"]
    return rows


async def test_what_was_deleted_comes_back_as_it_was(
    client: Application, tenant: str, path: str
) -> None:
    await client.stored(path, b"first")
    stored = await client.stored(
        path,
        b"second",
        Content_Disposition='attachment; filename="a.txt"',
        X_Sealgate_Meta_Color="red",
    )
    before = await client.get(path)
    assert (await client.send("DELETE", path)).status == 204
    assert (await client.get(path)).status == 404

    (row,) = await _trash(client, tenant)
    assert (row["attachment"], row["name"], row["size"]) == ("one", "a.txt", 6)
    assert row["version"] == stored["version"]
    assert row["deleted"] < row["kept_until"]
    back = await client.send("POST", f"/v1/tenants/{tenant}/trash/{row['trashed']}/undelete")

    assert (back.status, back.json["attachment"]) == (200, "one")
    after = await client.get(path)
    volatile = {"Date", "X-Request-ID"}
    assert after.body == before.body == b"second"
    assert {k: v for k, v in after.headers.items() if k not in volatile} == {
        k: v for k, v in before.headers.items() if k not in volatile
    }
    versions = (await client.get(f"{path}/versions")).json["versions"]
    assert len(versions) == 2
    assert (await client.get(f"{path}?version={versions[1]['version']}")).body == b"first"
    assert not await _trash(client, tenant)


async def test_an_id_that_was_given_again_is_not_taken_away(
    client: Application, tenant: str, path: str
) -> None:
    await client.stored(path, b"old")
    await client.send("DELETE", path)
    await client.stored(path, b"new")
    (row,) = await _trash(client, tenant)

    refused = await client.send("POST", f"/v1/tenants/{tenant}/trash/{row['trashed']}/undelete")

    assert (refused.status, refused.problem) == (409, "reference-taken")
    assert (await client.get(path)).body == b"new"
    await client.send("DELETE", path)
    assert len(await _trash(client, tenant)) == 2
    back = await client.send("POST", f"/v1/tenants/{tenant}/trash/{row['trashed']}/undelete")
    assert back.status == 200
    assert (await client.get(path)).body == b"old"


async def test_the_trash_is_listed_page_by_page(
    client: Application, tenant: str, path: str
) -> None:
    for number in range(5):
        await client.stored(f"{path}{number}", b"x")
        await client.send("DELETE", f"{path}{number}")
    seen: list[str] = []
    query = "?limit=2&names=false"
    while True:
        page = (await client.get(f"/v1/tenants/{tenant}/trash{query}")).json
        assert all("name" not in row for row in page["trash"])
        seen += [row["attachment"] for row in page["trash"]]
        if page["cursor"] is None:
            break
        query = f"?limit=2&names=false&cursor={page['cursor']}"

    assert sorted(seen) == [f"one{number}" for number in range(5)]


async def test_a_purge_on_demand_is_for_good(
    site: Site, client: Application, tenant: str, path: str
) -> None:
    await client.stored(path, b"gone for good")
    await client.send("DELETE", path)
    (row,) = await _trash(client, tenant)
    place = f"/v1/tenants/{tenant}/trash/{row['trashed']}"

    rights = [right for right in Right if right is not Right.PURGE]
    async with site.application(await site.token(tenant, rights)) as careless:
        assert (await careless.send("DELETE", place)).status == 403
    assert len(await _trash(client, tenant)) == 1
    assert (await client.send("DELETE", place)).status == 202

    assert not await _trash(client, tenant)
    assert (await client.send("POST", f"{place}/undelete")).status == 404
    assert (await client.send("DELETE", place)).status == 202  # the answer may have been lost
    version = f"?version={row['version']}"
    assert (await client.get(path + version)).status == 404


async def test_what_lives_cannot_be_purged(client: Application, tenant: str, path: str) -> None:
    await client.stored(path, b"alive")
    await client.send("DELETE", path)
    (row,) = await _trash(client, tenant)
    await client.send("POST", f"/v1/tenants/{tenant}/trash/{row['trashed']}/undelete")

    answer = await client.send("DELETE", f"/v1/tenants/{tenant}/trash/{row['trashed']}")

    assert (answer.status, answer.problem) == (404, "not-found")
    assert (await client.get(path)).body == b"alive"


async def test_a_hold_keeps_everything(
    admin: Application, client: Application, tenant: str, path: str
) -> None:
    await client.stored(path, b"evidence")
    await client.send("DELETE", path)
    (row,) = await _trash(client, tenant)
    place = f"/v1/tenants/{tenant}/retention"
    held = await admin.send("PUT", place, data=HOLD)
    assert held.status == 200, held.body

    refused = await client.send("DELETE", f"/v1/tenants/{tenant}/trash/{row['trashed']}")

    assert (refused.status, refused.problem) == (409, "held")
    assert (
        await client.send("PUT", place, data=b"{}")
    ).status == 403  # a tenant's own administrator
    assert (await admin.send("PUT", place, data=b"{}")).json["hold_until"] is None
    answer = await client.send("DELETE", f"/v1/tenants/{tenant}/trash/{row['trashed']}")
    assert answer.status == 202


@pytest.mark.parametrize(
    "body",
    [
        b'{"trash_days": 29}',
        b'{"trash_days": true}',
        b'{"trash_days": 1e400}',
        b'{"trash_days": 99999999999999999999}',
        b'{"keep_versions": -1}',
        b'{"keep_days": "3"}',
        b'{"hold_until": "2030-01-01"}',
        b'{"hold_until": "never"}',
        b'{"hold_until": 5}',
        b'{"unknown": 5}',
    ],
)
async def test_a_retention_that_cannot_be_is_refused(
    admin: Application, tenant: str, body: bytes
) -> None:
    place = f"/v1/tenants/{tenant}/retention"

    answer = await admin.send("PUT", place, data=body)

    assert (answer.status, answer.problem) == (400, "invalid-request")
    now = (await admin.get(place)).json
    assert now == {"trash_days": 30, "keep_versions": None, "keep_days": None, "hold_until": None}
