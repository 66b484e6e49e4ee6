"""PUT and POST, GET and HEAD: the same bytes come back, whatever their number and framing."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.service.http.application import Answer, Application
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
MiB = 1024 * 1024
SIZES = [0, 1, 16383, 16384, 65536, 65537, 1_000_000, 17 * MiB + 5]


async def _in_pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _lasting(answer: Answer) -> dict[str, str]:
    apart = {"date", "x-request-id"}
    return {name: value for name, value in answer.headers.items() if name.lower() not in apart}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["known-length", "chunked"])
async def test_the_bytes_come_back(client: Application, path: str, size: int, framing: str) -> None:
    data = os.urandom(size)

    receipt = await client.stored(path, data if framing == "known-length" else _in_pieces(data))

    assert receipt["size"] == size
    answer = await client.get(path)
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(size)
    assert answer.body == data


async def test_a_receipt_says_what_was_stored_and_where(client: Application, path: str) -> None:
    answer = await client.put(path, b"content")

    assert answer.status == 201
    assert answer.json["attachment"] == "one"
    assert answer.json["size"] == 7
    assert answer.json["stored"] == ["east", "primary", "west"]
    assert answer.headers["Sealgate-Stored"] == "east, primary, west"
    assert answer.headers["ETag"] == f'"{answer.json["version"]}"'
    assert answer.headers["Sealgate-Version"] == answer.json["version"]
    assert answer.headers["Location"] == path
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_post_gets_an_id_of_the_gateways(client: Application, tenant: str) -> None:
    place = f"/v1/tenants/{tenant}/attachments"

    first = await client.send("POST", place, data=b"first")
    second = await client.send("POST", place, data=b"second")

    assert first.status == second.status == 201
    assert first.json["attachment"] != second.json["attachment"]
    assert first.headers["Location"] == f"{place}/{first.json['attachment']}"
    assert (await client.get(first.headers["Location"])).body == b"first"


@pytest.mark.parametrize("size", [0, 100, 200_000])
async def test_head_says_what_get_would(client: Application, path: str, size: int) -> None:
    await client.stored(path, bytes(size), Content_Type="text/plain", Want_Repr_Digest="sha-256=1")

    head = await client.send("HEAD", path)
    whole = await client.get(path)

    assert head.status == 200
    assert head.body == b""
    assert _lasting(head) == _lasting(whole)


async def test_a_connection_goes_on_after_a_head(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, bytes(100_000))
    field = f"Authorization: Bearer {client.token}"

    async with Wire(site.url) as wire:
        await wire.request("HEAD", path, field)
        head = await wire.answer(head_only=True)
        await wire.request("GET", path, field)
        whole = await wire.answer()

    assert head.headers["Content-Length"] == "100000"
    assert whole.body == bytes(100_000)


async def test_the_type_is_kept_and_never_run_by_a_browser(client: Application, path: str) -> None:
    await client.stored(path, b"<script>", Content_Type="text/html; charset=utf-8")

    answer = await client.get(path)

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_without_a_type_it_is_plain_bytes(client: Application, path: str) -> None:
    await client.stored(path, b"content")

    assert (await client.get(path)).headers["Content-Type"] == "application/octet-stream"


async def test_new_content_is_a_new_version_and_the_old_one_stays(
    client: Application, path: str
) -> None:
    first = await client.stored(path, b"first")
    second = await client.stored(path, b"second")

    assert (await client.get(path)).body == b"second"
    old = await client.get(f"{path}?version={first['version']}")
    assert old.body == b"first"
    assert old.headers["Sealgate-Version"] == first["version"]
    listed = (await client.get(f"{path}/versions")).json["versions"]
    assert [(row["version"], row["size"], row["current"]) for row in listed] == [
        (second["version"], 6, True),
        (first["version"], 5, False),
    ]
    assert listed[0]["replicas"] == {"east": "stored", "primary": "stored", "west": "stored"}
    assert listed[0]["etag"] == f'"{second["version"]}"'


@pytest.mark.parametrize("version", ["0" * 32, "nonsense", "", "0" * 32 + "%00"])
async def test_no_such_version(client: Application, path: str, version: str) -> None:
    await client.stored(path, b"content")

    assert (await client.get(f"{path}?version={version}")).problem == "not-found"


async def test_another_attachments_version_is_not_this_ones(client: Application, path: str) -> None:
    await client.stored(path, b"content")
    other = await client.stored(f"{path}-other", b"other")

    assert (await client.get(f"{path}?version={other['version']}")).status == 404


async def test_deleted_is_gone_and_a_put_makes_a_new_attachment(
    client: Application, path: str
) -> None:
    first = await client.stored(path, b"first")

    assert (await client.send("DELETE", path)).status == 204
    assert (await client.get(path)).problem == "not-found"
    assert (await client.send("HEAD", path)).status == 404
    assert (await client.get(f"{path}?version={first['version']}")).status == 404
    assert (await client.get(f"{path}/versions")).status == 404
    assert (await client.send("DELETE", path)).problem == "not-found"
    await client.stored(path, b"second")
    assert (await client.get(path)).body == b"second"
    assert len((await client.get(f"{path}/versions")).json["versions"]) == 1


async def test_a_small_attachment_is_one_request_a_store(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, bytes(65536))

    assert {name: dict(store.calls) for name, store in site.stores.items()} == {
        name: {"put": 1} for name in site.stores
    }
    site.mend()
    assert (await client.get(path)).body == bytes(65536)
    assert site.store_calls() == 0


async def test_content_range_on_a_put_is_refused(client: Application, path: str) -> None:
    answer = await client.put(path, b"middle", {"Content-Range": "bytes 10-15/100"})

    assert answer.problem == "invalid-request"
    assert (await client.get(path)).status == 404
