"""Where a request ends and whose it is: what others on the way may understand in another way is refused."""

import pytest

from tests.service.http.application import Application
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


def _field(client: Application) -> str:
    return f"Authorization: Bearer {client.token}"


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "deflate,chunked"])
async def test_a_coded_body_is_not_stored_as_it_came(
    site: Site, client: Application, path: str, coding: str
) -> None:
    async with Wire(site.url) as wire:
        field = f"Transfer-Encoding: {coding}"
        await wire.request("PUT", path, _field(client), field, body=CHUNKED)
        answer = await wire.answer()
        assert await wire.closed() == b""

    assert (answer.status, answer.headers["Connection"]) == (501, "close")
    assert b"urn:sealgate:problem:transfer-coding" in answer.body
    assert (await client.get(path)).status == 404


async def test_a_body_in_chunks_from_an_old_client_ends_the_connection(
    site: Site, client: Application, path: str
) -> None:
    smuggled = f"GET {path} HTTP/1.1\r\nHost: x\r\n{_field(client)}\r\n\r\n".encode()

    async with Wire(site.url) as wire:
        fields = (_field(client), "Transfer-Encoding: chunked", "Connection: keep-alive")
        await wire.request("PUT", path, *fields, version="1.0", body=CHUNKED + smuggled)
        answer = await wire.answer()
        assert await wire.closed() == b""

    assert answer.status == 400
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize(("method", "status"), [("DELETE", 204), ("GET", 200), ("HEAD", 200)])
async def test_who_was_not_told_to_continue_is_told_that_the_connection_ends(
    site: Site, client: Application, path: str, method: str, status: int
) -> None:
    await client.stored(path, b"content")
    waits = ("Content-Length: 200", "Expect: 100-continue")

    async with Wire(site.url) as wire:
        await wire.request(method, path, _field(client), *waits)
        answer = await wire.answer(head_only=method == "HEAD")

    assert (answer.status, answer.headers["Connection"]) == (status, "close")


async def test_of_two_tokens_none_counts(site: Site, client: Application, path: str) -> None:
    for fields in ((_field(client), "Authorization: Bearer x"), (_field(client),) * 2):
        async with Wire(site.url) as wire:
            await wire.request("GET", path, *fields)
            assert (await wire.answer()).status == 401


async def test_of_two_idempotency_keys_none_counts(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        fields = ("Idempotency-Key: a", "Idempotency-Key: b", "Content-Length: 0")
        await wire.request("PUT", path, _field(client), *fields)
        assert (await wire.answer()).status == 400
