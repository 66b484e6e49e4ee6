"""Who may do what: tokens, their rights, tenants and administrators."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from gateway.model import SYSTEM, Right
from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
NOBODY = "0" * 32


def _requests(tenant: str) -> list[tuple[Right, bool, str, str]]:
    """Name the right that each request needs, and whether it needs it for all tenants."""
    one = f"/v1/tenants/{tenant}"
    return [
        (Right.WRITE, False, "PUT", f"{one}/attachments/x"),
        (Right.WRITE, False, "POST", f"{one}/attachments"),
        (Right.READ, False, "GET", f"{one}/attachments/x"),
        (Right.READ, False, "HEAD", f"{one}/attachments/x"),
        (Right.READ, False, "GET", f"{one}/attachments/x/versions"),
        (Right.READ, False, "GET", f"{one}/attachments"),
        (Right.DELETE, False, "DELETE", f"{one}/attachments/x"),
        (Right.ADMIN, False, "GET", one),
        (Right.ADMIN, True, "PATCH", one),
        (Right.ADMIN, False, "GET", f"{one}/tokens"),
        (Right.ADMIN, False, "POST", f"{one}/tokens"),
        (Right.ADMIN, False, "DELETE", f"{one}/tokens/{'0' * 16}"),
        (Right.READ, False, "GET", f"{one}/trash"),
        (Right.DELETE, False, "POST", f"{one}/trash/{NOBODY}/undelete"),
        (Right.PURGE, False, "DELETE", f"{one}/trash/{NOBODY}"),
        (Right.ADMIN, False, "GET", f"{one}/retention"),
        (Right.ADMIN, True, "PUT", f"{one}/retention"),
        (Right.ADMIN, True, "GET", "/v1/tenants"),
        (Right.ADMIN, True, "POST", "/v1/tenants"),
    ]


async def test_each_request_needs_its_right(site: Site, tenant: str) -> None:
    for right, everywhere, method, place in _requests(tenant):
        others = [each for each in Right if each is not right]
        for scope in (tenant, None):
            async with site.application(await site.token(scope, others)) as without:
                assert (await without.send(method, place)).status == 403, (method, place)
        async with site.application(await site.token(tenant, [right])) as one:
            assert ((await one.send(method, place)).status == 403) == everywhere, (method, place)
        async with site.application(await site.token(None, [right])) as every:
            assert (await every.send(method, place)).status != 403, (method, place)


async def test_the_reserved_tenant_is_nobody_s(site: Site, admin: Application) -> None:
    for right, everywhere, method, place in _requests(SYSTEM):
        if not everywhere or SYSTEM in place:
            async with site.application(await site.token(None, [right])) as every:
                assert (await every.send(method, place)).status == 404, (method, place)
    listed = (await admin.send("GET", "/v1/tenants?limit=1000")).json
    assert SYSTEM not in [each["tenant"] for each in listed["tenants"]]


async def test_another_tenants_token_is_refused(
    site: Site, admin: Application, tenant: str
) -> None:
    other = (await admin.send("POST", "/v1/tenants")).json["tenant"]

    async with site.application(await site.token(other)) as stranger:
        for _, _, method, place in _requests(tenant):
            answer = await stranger.send(method, place)
            assert answer.status == 403, (method, place)
            if method != "HEAD":
                assert answer.problem == "forbidden"


BAD_TOKENS = {
    "none": None,
    "empty": "",
    "nonsense": "nonsense",
    "unknown": f"sgt_{'0' * 16}_{'A' * 43}",
    "long": "x" * 4000,
    "Unicode": "sgt_gr\u00fcn",
}


@pytest.mark.parametrize("text", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_a_bad_token_is_refused_alike(site: Site, tenant: str, text: str | None) -> None:
    async with site.application(text) as stranger:
        for _, _, method, place in _requests(tenant):
            answer = await stranger.send(method, place)
            assert answer.status == 401, (method, place)
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sealgate"'
            if method != "HEAD":
                assert answer.problem == "unauthorized"


async def test_a_wrong_secret_and_another_scheme_are_refused(site: Site, tenant: str) -> None:
    good = await site.token(tenant)
    place = f"/v1/tenants/{tenant}/attachments"
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")

    async with site.application(None) as client:
        refused = [f"Bearer {wrong}", f"Basic {good}", good, "Bearer", f"Bearer {good} x"]
        for value in refused:
            assert (await client.get(place, Authorization=value)).problem == "unauthorized"
        for value in (f"Bearer {good}", f"bearer  {good} "):
            assert (await client.get(place, Authorization=value)).status == 200


async def test_an_expired_token_is_refused(site: Site, tenant: str) -> None:
    place = f"/v1/tenants/{tenant}/attachments"
    made = time.time()
    token = await site.token(tenant, lifetime=timedelta(seconds=0.4))

    async with site.application(token) as client:
        first = await client.get(place)
        assert first.status == 200 or time.time() - made > 0.4  # on a machine that was busy
        await asyncio.sleep(0.5)
        assert (await client.get(place)).problem == "unauthorized"


async def test_a_refused_upload_leaves_nothing(site: Site, path: str) -> None:
    before = await site.objects()
    site.mend()
    async with site.application(None) as stranger:
        assert (await stranger.put(path, bytes(300_000))).status == 401
    assert await site.objects() == before
    assert site.store_calls() == 0
    assert not site.keys.calls


async def test_a_tenant_that_is_not_there(admin: Application) -> None:
    for _, everywhere, method, place in _requests(NOBODY):
        if not everywhere:
            sent: dict[str, Any] = {"json": {"rights": ["read"]}} if "tokens" in place else {}
            answer = await admin.send(method, place, **sent)
            assert answer.status == 404, (method, place, answer.body)


@pytest.mark.parametrize("tenant", ["x", "0" * 31, "0" * 33, "A" * 32, "%00", "0" * 31 + "%2F"])
async def test_a_tenant_that_cannot_be_one(admin: Application, tenant: str) -> None:
    assert (await admin.get(f"/v1/tenants/{tenant}")).problem == "not-found"


async def test_tenants(admin: Application) -> None:
    made = await admin.send("POST", "/v1/tenants", json={"tier": "business"})

    assert made.status == 201
    assert made.json["tier"] == "business"
    shown = await admin.get(made.headers["Location"])
    assert made.json.items() <= shown.json.items()
    seen: list[dict[str, Any]] = []
    cursor, limit = "", 2
    while True:
        page = (await admin.get(f"/v1/tenants?limit={limit}{cursor}")).json
        seen += page["tenants"]
        if page["cursor"] is None:
            break
        assert len(page["tenants"]) == limit
        cursor, limit = f"&cursor={page['cursor']}", 1000
    assert made.json in seen
    ids = [tenant["tenant"] for tenant in seen]
    assert ids == sorted(set(ids))


async def test_tokens(site: Site, tenant: str, path: str) -> None:
    async with site.application(await site.token(tenant, [Right.ADMIN])) as owner:
        place = f"/v1/tenants/{tenant}/tokens"
        made = await owner.send("POST", place, json={"rights": ["read", "write"], "days": 1})
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        assert made.json["rights"] == ["read", "write"]
        listed = (await owner.get(place)).json["tokens"]
        assert made.json["token"] in {token["token"] for token in listed}
        assert made.json["text"] not in str(listed)

        async with site.application(made.json["text"]) as user:
            assert (await user.put(path, b"content")).status == 201
            assert (await user.send("DELETE", path)).status == 403
            gone = await owner.send("DELETE", f"{place}/{made.json['token']}")
            assert gone.status == 204
            assert (await user.get(path)).problem == "unauthorized"
        assert (await owner.send("DELETE", f"{place}/{made.json['token']}")).problem == "not-found"


async def test_nobody_revokes_a_strangers_token(
    site: Site, admin: Application, tenant: str
) -> None:
    other = (await admin.send("POST", "/v1/tenants")).json["tenant"]
    token = await admin.send("POST", f"/v1/tenants/{other}/tokens", json={"rights": ["read"]})
    name = token.json["token"]

    async with site.application(await site.token(tenant)) as stranger:
        assert (await stranger.send("DELETE", f"/v1/tenants/{tenant}/tokens/{name}")).status == 404
        assert (await stranger.send("DELETE", f"/v1/tenants/{other}/tokens/{name}")).status == 403
    async with site.application(token.json["text"]) as owner:
        assert (await owner.get(f"/v1/tenants/{other}/attachments")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff",
        b"[" * 60_000,
        b'{"rights": []}',
        b'{"rights": "read"}',
        b'{"rights": ["root"]}',
        b'{"rights": [{}]}',
        b'{"rights": [["read"]]}',
        b'{"rights": ["read"], "days": 0}',
        b'{"rights": ["read"], "days": 3651}',
        b'{"rights": ["read"], "days": true}',
        b'{"rights": ["read"], "days": 1.5}',
        b'{"rights": ["read"], "days": ' + b"9" * 5000 + b"}",
        b'{"rights": ["read"], "tenant": null}',
    ],
)
async def test_a_token_request_that_makes_no_sense(
    admin: Application, tenant: str, body: bytes
) -> None:
    answer = await admin.send("POST", f"/v1/tenants/{tenant}/tokens", data=body)

    assert answer.problem == "invalid-request"


@pytest.mark.parametrize("body", [b'{"tier": "gold"}', b'{"tier": 3}', b'{"id": "x"}', b"x"])
async def test_a_tenant_request_that_makes_no_sense(admin: Application, body: bytes) -> None:
    answer = await admin.send("POST", "/v1/tenants", data=body)

    assert answer.problem == "invalid-request"


async def test_a_json_body_is_bounded_and_plain(admin: Application) -> None:
    large = await admin.send("POST", "/v1/tenants", data=b" " * 70_000)
    packed = await admin.send("POST", "/v1/tenants", {"Content-Encoding": "gzip"}, data=b"x")

    assert large.problem == "too-large"
    assert packed.problem == "unsupported-encoding"


@pytest.mark.parametrize("cursor", ["!", "eA", "AA", "x" * 100])
async def test_a_tenant_cursor_that_no_listing_gave(admin: Application, cursor: str) -> None:
    assert (await admin.get(f"/v1/tenants?cursor={cursor}")).problem == "invalid-request"
