"""Idempotency-Key: one version a key, whatever happens to the answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import StoreDenied
from tests.service.http.application import Application
from tests.service.http.eventually import eventually
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}
_FIELD = f"Idempotency-Key: {KEY['Idempotency-Key']}"


async def _count(client: Application, path: str) -> int:
    answer = await client.get(f"{path}/versions")
    return 0 if answer.status == 404 else len(answer.json["versions"])


@pytest.mark.parametrize("size", [0, 7, 300_000])
async def test_a_repetition_gets_the_same_version(
    client: Application, path: str, size: int
) -> None:
    body = bytes(size)
    first = await client.put(path, body, KEY)
    second = await client.put(path, body, KEY)

    assert first.status == second.status == 201
    assert first.json == second.json
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["ETag"] == first.headers["ETag"]
    assert await _count(client, path) == 1


async def test_a_repeated_post_gets_the_same_id(client: Application, tenant: str) -> None:
    place = f"/v1/tenants/{tenant}/attachments"

    first = await client.send("POST", place, KEY, data=b"content")
    second = await client.send("POST", place, KEY, data=b"content")

    assert first.json == second.json
    assert second.headers["Location"] == first.headers["Location"]
    assert len((await client.get(place)).json["attachments"]) == 1


async def test_framing_and_digests_may_differ_in_a_repetition(
    client: Application, path: str
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"con"
        yield b"tent"

    first = await client.put(path, b"content", KEY)
    second = await client.put(path, chunks(), KEY)

    assert first.json == second.json
    assert (
        await client.put(path, b"content", {**KEY, "Repr-Digest": "sha-256=:" + "A" * 43 + "=:"})
    ).problem == "digest-mismatch"


@pytest.mark.parametrize("body", [b"", b"CONTENT", b"conten", b"content!", bytes(100_000)])
async def test_another_body_is_422(client: Application, path: str, body: bytes) -> None:
    await client.put(path, b"content", KEY)

    answer = await client.put(path, body, KEY)

    assert answer.status == 422
    assert answer.problem == "idempotency-mismatch"
    assert await _count(client, path) == 1


async def test_another_longer_body_in_chunks_is_422(client: Application, path: str) -> None:
    await client.put(path, b"content", KEY)

    async def long() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(10_000)

    assert (await client.put(path, long(), KEY)).status == 422


async def test_another_request_is_422(client: Application, tenant: str, path: str) -> None:
    await client.put(path, b"content", KEY)

    others = [
        client.put(path + "-other", b"content", KEY),
        client.put(path, b"content", {**KEY, "Content-Type": "text/plain"}),
        client.put(path, b"content", {**KEY, "Content-Disposition": "attachment; filename=x"}),
        client.put(path, b"content", {**KEY, "X-Sealgate-Meta-a": "b"}),
        client.put(path, b"content", {**KEY, "If-Match": "*"}),
        client.send("POST", f"/v1/tenants/{tenant}/attachments", KEY, data=b"content"),
    ]
    for other in others:
        assert (await other).problem == "idempotency-mismatch"
    assert await _count(client, path) == 1


async def test_a_precondition_counts_once(client: Application, path: str) -> None:
    fields = {**KEY, "If-None-Match": "*"}

    first = await client.put(path, b"content", fields)
    second = await client.put(path, b"content", fields)

    assert first.status == second.status == 201
    assert first.json == second.json


async def test_a_date_counts_once(client: Application, path: str) -> None:
    """The version that the first one made is newer than the date, and is no reason to refuse it."""
    fields = {**KEY, "If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}

    first = await client.put(path, b"content", fields)
    second = await client.put(path, b"content", fields)

    assert first.status == second.status == 201, second.body
    assert first.json == second.json
    other = {**fields, "Idempotency-Key": "other"}
    assert (await client.put(path, b"content", other)).status == 412


async def test_two_at_once_are_409(site: Site, client: Application, path: str) -> None:
    async with Wire(site.url) as wire:
        token, key = f"Authorization: Bearer {client.token}", _FIELD
        await wire.request("PUT", path, token, key, "Content-Length: 7", body=b"con")
        await site.under_way()

        second = await client.put(path, b"content", KEY)
        await wire.send(b"tent")
        first = await wire.answer()

    assert second.status == 409
    assert second.problem == "operation-running"
    assert int(second.headers["Retry-After"]) >= 1
    assert first.status == 201
    assert await _count(client, path) == 1
    assert (await client.put(path, b"content", KEY)).headers["Idempotency-Replayed"] == "true"


async def test_of_many_at_once_one_stores(client: Application, path: str) -> None:
    answers = await asyncio.gather(*(client.put(path, b"content", KEY) for _ in range(10)))

    assert {answer.status for answer in answers} <= {201, 409}
    stored = [answer for answer in answers if answer.status == 201]
    assert len({answer.json["version"] for answer in stored}) == 1
    assert await _count(client, path) == 1


async def test_a_key_is_free_again_after_a_failure(
    site: Site, client: Application, path: str
) -> None:
    wrong = {**KEY, "Repr-Digest": "sha-256=:" + "A" * 43 + "=:"}
    assert (await client.put(path, b"content", wrong)).problem == "digest-mismatch"
    site.stores["primary"].faults.refuse_writes = StoreDenied("no")
    assert (await client.put(path, b"content", KEY)).problem == "quorum-lost"
    site.mend()

    assert (await client.put(path, b"other content", KEY)).status == 201
    assert (await client.get(path)).body == b"other content"


async def test_a_key_is_free_again_after_a_disconnect(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        token, key = f"Authorization: Bearer {client.token}", _FIELD
        await wire.request("PUT", path, token, key, "Content-Length: 7", body=b"con")
        await site.under_way()
        wire.abort()

    async def taken() -> bool:
        return (await client.put(path, b"content", KEY)).status != 409

    await eventually(taken)
    assert (await client.get(path)).body == b"content"


async def test_keys_are_a_tenants_own(admin: Application, client: Application, path: str) -> None:
    other = (await admin.send("POST", "/v1/tenants")).json["tenant"]
    await client.put(path, b"content", KEY)

    answer = await admin.put(f"/v1/tenants/{other}/attachments/one", b"another", KEY)

    assert answer.status == 201
    assert "Idempotency-Replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "grün"])
async def test_a_key_that_is_none_is_refused(client: Application, path: str, key: str) -> None:
    assert (await client.put(path, b"x", {"Idempotency-Key": key})).status == 400
