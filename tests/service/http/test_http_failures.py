"""What breaks while it runs: clients, stores and keys, and what is answered and left behind."""

import asyncio
import contextlib
import os

import aiohttp
import pytest

from gateway.catalog.sql import SqlCatalog
from gateway.errors import CatalogUnavailable, StoreDenied, StoreFull
from keyservice import wire as keys
from keyservice.wire import KeyServiceError
from tests.service.http.application import Application
from tests.service.http.conftest import NewSite
from tests.service.http.eventually import eventually
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
MiB = 1024 * 1024
BODY = os.urandom(20 * MiB)


def _field(client: Application) -> str:
    return f"Authorization: Bearer {client.token}"


@pytest.mark.parametrize("sent", [0, 1, 100_000, 12 * MiB])
async def test_a_client_that_leaves_an_upload_leaves_nothing(
    site: Site, client: Application, path: str, sent: int
) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path, _field(client), f"Content-Length: {len(BODY)}")
        await wire.send(BODY[:sent])
        await site.under_way()
        if sent > 8 * MiB:
            await eventually(lambda: site.objects_of(path))
        wire.abort()

    await site.settled()
    assert not await site.objects_of(path)
    assert (await client.get(path)).status == 404
    assert (await client.get(path.rpartition("/")[0])).json["attachments"] == []


async def test_a_client_that_leaves_a_download_stops_the_reading(
    site: Site, client: Application, path: str
) -> None:
    body = bytes(64 * MiB)
    await client.stored(path, body)
    site.mend()

    async with Wire(site.url) as wire:
        await wire.request("GET", path, _field(client))
        await wire.reader.readexactly(MiB)
        wire.abort()

    async def stopped() -> bool:
        return not any(store.open_reads for store in site.stores.values())

    await eventually(stopped)
    assert site.stores["primary"].read_bytes < len(body) // 2


async def test_a_slow_client_does_not_pull_the_store_ahead(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, bytes(64 * MiB))
    site.mend()

    async with Wire(site.url) as wire:
        await wire.request("GET", path, _field(client))
        await wire.reader.readexactly(1000)
        before = 0

        async def still() -> bool:
            nonlocal before
            earlier, before = before, site.stores["primary"].read_bytes
            await asyncio.sleep(0.5)
            return site.stores["primary"].read_bytes == before == earlier

        await eventually(still)
        assert 0 < before < 32 * MiB
        wire.abort()


async def test_a_damaged_first_chunk_is_read_elsewhere(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, BODY)
    site.stores["primary"].faults.damage_from = 0

    assert (await client.get(path)).body == BODY
    assert (await client.get(path, Range="bytes=-10")).body == BODY[-10:]


@pytest.mark.parametrize("place", [100_000, 8 * MiB, 19 * MiB])
async def test_damage_in_the_middle_goes_unnoticed(
    site: Site, client: Application, path: str, place: int
) -> None:
    await client.stored(path, BODY)
    site.stores["primary"].faults.damage_from = place

    assert (await client.get(path)).body == BODY
    several = await client.get(path, Range=f"bytes=0-99,{place}-{place + 99}")
    assert several.status == 206
    assert several.body.count(BODY[place : place + 100]) == 1


async def test_damage_everywhere_from_the_start_is_told(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, BODY)
    for store in site.stores.values():
        store.faults.damage_from = 0

    for fields in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=0-1,9-10"}):
        answer = await client.get(path, **fields)
        assert answer.status == 503
        assert answer.problem == "unreadable"
        assert "Retry-After" in answer.headers
        assert "Repr-Digest" not in answer.headers
    assert (await client.send("HEAD", path)).status == 200


async def _pour(content: aiohttp.StreamReader, into: bytearray) -> None:
    async for piece in content.iter_any():
        into += piece


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-99,9000000-9000099"}], ids=str)
async def test_damage_everywhere_in_the_middle_cuts_the_connection(
    site: Site, client: Application, path: str, fields: dict[str, str], log: list[dict[str, object]]
) -> None:
    await client.stored(path, BODY)
    for store in site.stores.values():
        store.faults.damage_from = 9_000_000
    got = bytearray()

    async with client.open("GET", path, headers=fields) as answer:
        assert answer.status in {200, 206}
        with pytest.raises(aiohttp.ClientPayloadError):
            await _pour(answer.content, got)

    async def recorded() -> bool:
        return any(entry.get("tenant") and entry["method"] == "GET" for entry in log)

    await eventually(recorded)
    assert len(got) < int(answer.headers["Content-Length"])
    if not fields:
        assert BODY.startswith(got)  # not one wrong byte
    assert [entry["reason"] for entry in log if entry["event"] == "download cut"] == ["Unreadable"]
    assert [
        entry["status"] for entry in log if entry.get("tenant") and entry["method"] == "GET"
    ] == [599]
    assert (await client.get("/livez")).status == 200


async def test_a_cut_is_counted_and_a_client_that_leaves_is_not(
    site: Site, client: Application, path: str
) -> None:
    async def cuts() -> str:
        text = (await client.get("/metrics")).body.decode()
        return next(line for line in text.splitlines() if line.startswith("sealgate_downloads_cut"))

    await client.stored(path, bytes(40 * MiB))
    before = await cuts()
    async with Wire(site.url) as wire:
        await wire.request("GET", path, _field(client))
        await wire.reader.readexactly(1000)
        wire.abort()
    await asyncio.sleep(0.2)
    assert await cuts() == before
    for store in site.stores.values():
        store.faults.damage_from = 9_000_000
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.get(path)

    async def counted() -> bool:
        return await cuts() != before

    await eventually(counted)


async def test_a_primary_that_is_down_is_read_from_a_backup(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, BODY)
    site.stores["primary"].faults.refuse = StoreDenied("no")

    assert (await client.get(path)).body == BODY
    assert (await client.get(path, Range="bytes=7-9")).body == BODY[7:10]


@pytest.mark.parametrize("size", [100, 100_000, 12 * MiB])
@pytest.mark.parametrize("fault", [StoreDenied("no"), StoreFull("full")], ids=repr)
async def test_without_its_primary_nothing_is_taken(
    site: Site, client: Application, path: str, size: int, fault: StoreDenied
) -> None:
    site.stores["primary"].faults.refuse_writes = fault

    answer = await client.put(path, BODY[:size])

    assert answer.status in {503, 507}
    assert answer.problem in {"quorum-lost", "store-full"}
    await site.settled()
    assert not await site.objects_of(path)
    site.mend()
    assert (await client.get(path)).status == 404


async def test_a_primary_that_fails_midway_is_told_at_once(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path, _field(client), f"Content-Length: {4 * len(BODY)}")
        await wire.send(BODY)
        await eventually(lambda: site.objects_of(path))
        site.stores["primary"].faults.refuse_writes = StoreDenied("no")
        wire.writer.write(BODY)
        answer = await wire.answer()  # while most of the body is still to come

    assert answer.status == 503
    assert answer.headers["Connection"] == "close"
    await site.settled()
    assert not await site.objects_of(path)


async def test_what_is_read_when_it_stops_is_finished(new_site: NewSite) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with new_site(drain_timeout=60.0) as site, site.tenant() as (client, path):
            await client.stored(path, BODY)
            wire = await stack.enter_async_context(Wire(site.url))
            await wire.request("GET", path, _field(client))
            reading = asyncio.create_task(wire.answer())
            await eventually(lambda: _began(site))
        answer = await reading

    assert answer.body == BODY


async def _began(site: Site) -> bool:
    return any(store.open_reads for store in site.stores.values())


@pytest.mark.parametrize("size", [100, 12 * MiB])
async def test_without_one_backup_the_receipt_says_so(
    site: Site, client: Application, path: str, size: int
) -> None:
    site.stores["west"].faults.refuse_writes = StoreDenied("no")

    answer = await client.put(path, BODY[:size])

    assert answer.status == 201
    assert answer.headers["Sealgate-Stored"] == "east, primary"
    (version,) = (await client.get(f"{path}/versions")).json["versions"]
    assert version["replicas"]["west"] == "missing"
    assert (await client.get(path)).body == BODY[:size]


async def test_without_all_backups_nothing_is_taken(
    site: Site, client: Application, path: str
) -> None:
    for name in ("east", "west"):
        site.stores[name].faults.refuse_writes = StoreDenied("no")

    answer = await client.put(path, BODY[:100_000])

    assert answer.problem == "quorum-lost"
    assert int(answer.headers["Retry-After"]) >= 1


KEY_ERRORS = [
    (keys.Denied("no"), 403, "key-denied"),
    (keys.Suspended(), 403, "tenant-suspended"),
    (keys.SuspendedByOwner(), 403, "suspended-by-owner"),
    (keys.Shredding(), 403, "tenant-shredding"),
    (keys.Shredded(), 410, "tenant-shredded"),
    (keys.UnknownTenant(), 404, "tenant-unknown"),
    (keys.Throttled(retry_after=3.2), 429, "throttled"),
    (keys.Unavailable(retry_after=9), 503, "keys-unavailable"),
    (keys.Unauthenticated(), 502, "key-service"),
    (keys.Invalid(), 502, "key-service"),
    (keys.KeyServiceError(), 502, "key-service"),
    (keys.CannotUnwrap(), 500, "key-damaged"),
]


@pytest.mark.parametrize("case", KEY_ERRORS, ids=lambda case: type(case[0]).__name__)
async def test_what_the_key_service_answers_is_told(
    site: Site, client: Application, path: str, case: tuple[KeyServiceError, int, str]
) -> None:
    error, status, slug = case
    await client.stored(path, b"content")
    site.keys.refuse = error

    for answer in (await client.get(path), await client.put(f"{path}-two", bytes(100_000))):
        assert answer.status == status
        assert answer.problem == slug
        if error.retry_after is not None:
            assert int(answer.headers["Retry-After"]) == round(error.retry_after)
    site.mend()
    assert (await client.get(f"{path}-two")).status == 404
    await site.settled()


async def test_without_its_key_service_it_says_so_and_serves_what_it_has_keys_for(
    new_site: NewSite,
) -> None:
    async with new_site() as site, site.tenant() as (client, path):
        await client.stored(path, b"content")
        assert (await client.get(path)).body == b"content"
        await site.stop_keys()

        assert (await client.get(path)).body == b"content"  # its key is kept for a moment
        answer = await client.put(path, b"other")
        assert answer.problem == "keys-unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
        ready = await client.get("/readyz")
        assert ready.status == 503
        assert b"key service: " in ready.body


async def test_without_its_catalog_it_says_so(
    client: Application, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.stored(path, b"content")

    async def gone(*_: object) -> None:
        raise CatalogUnavailable("the database did not answer (x)", retry_after=1)

    unread = {"Authorization": f"Bearer sgt_{'0' * 16}_{'A' * 43}"}  # one that is asked for
    for method in ("token", "find", "begin"):
        with monkeypatch.context() as patch:
            patch.setattr(SqlCatalog, method, gone)
            headers = unread if method == "token" else {}
            asked = client.put(path, b"x") if method == "begin" else client.get(path, **headers)
            answer = await asked
            assert answer.problem == "catalog-unavailable"
            assert answer.headers["Retry-After"] == "1"


async def test_an_error_of_ours_tells_nothing(
    client: Application, path: str, monkeypatch: pytest.MonkeyPatch, log: list[dict[str, object]]
) -> None:
    async def bug(*_: object) -> None:
        raise RuntimeError("canary-secret")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "find", bug)
        answer = await client.get(path)

    assert answer.status == 500
    assert answer.problem == "internal"
    assert "detail" not in answer.json
    assert b"canary" not in answer.body
    assert "canary" not in str(log)
    (entry,) = [entry for entry in log if entry["event"] == "unexpected error"]
    assert entry["error"] == "RuntimeError"
    assert "test_http_failures.py" in str(entry["places"])


async def test_what_runs_when_it_stops_is_finished(new_site: NewSite) -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        async with new_site(drain_timeout=60.0) as site, site.tenant() as (client, path):
            wire = await stack.enter_async_context(Wire(site.url))
            await wire.request("PUT", path, _field(client), "Content-Length: 5", body=b"hel")
            await site.under_way()
            later = loop.call_later(0.3, wire.writer.write, b"lo")
        answer = await wire.answer()
        later.cancel()

    assert answer.status == 201
