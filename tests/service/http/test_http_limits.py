"""What is refused for its size or its coding, and that nothing of it stays."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.service.http.application import Application
from tests.service.http.conftest import NewSite
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
LIMIT = 6 * 1024 * 1024


@pytest_asyncio.fixture(loop_scope="session")
async def small(new_site: NewSite) -> AsyncIterator[tuple[Site, Application, str]]:
    """Run a gateway that takes 6 MiB at most."""
    limits = {"max_attachment": LIMIT, "part_size": 5 * 1024 * 1024}
    async with new_site(limits=limits) as site, site.tenant() as (client, path):
        yield site, client, path


async def _stream(size: int) -> AsyncIterator[bytes]:
    while size:
        piece = min(size, 100_000)
        yield bytes(piece)
        size -= piece


Small = tuple[Site, Application, str]


async def test_the_limit_itself_is_taken(small: Small) -> None:
    _, client, path = small

    assert (await client.stored(path, bytes(LIMIT)))["size"] == LIMIT
    assert (await client.stored(path, _stream(LIMIT)))["size"] == LIMIT


async def test_a_declared_length_beyond_it_is_refused_unread(small: Small) -> None:
    site, client, path = small

    async with Wire(site.url) as wire:
        field = f"Authorization: Bearer {client.token}"
        await wire.request("PUT", path, field, f"Content-Length: {LIMIT + 1}")
        answer = await wire.answer()

    assert answer.status == 413
    assert b"urn:sealgate:problem:too-large" in answer.body
    assert answer.headers["Connection"] == "close"
    await site.settled()
    assert not await site.objects()


async def test_a_stream_beyond_it_is_cut_off(small: Small) -> None:
    site, client, path = small
    field = f"Authorization: Bearer {client.token}"
    chunk = b"186a0\r\n" + bytes(100_000) + b"\r\n"

    async with Wire(site.url) as wire:
        await wire.request("PUT", path, field, "Transfer-Encoding: chunked")
        for _ in range(LIMIT // 100_000 + 1):
            await wire.send(chunk)
        answer = await wire.answer()  # while more could come

    assert answer.status == 413
    await site.settled()
    assert not await site.objects()
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "x"])
async def test_an_encoded_body_is_refused(client: Application, path: str, coding: str) -> None:
    answer = await client.put(path, b"content", {"Content-Encoding": coding})

    assert answer.status == 415
    assert answer.problem == "unsupported-encoding"
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_the_body_as_it_is_may_say_so(client: Application, path: str, coding: str) -> None:
    await client.stored(path, b"content", Content_Encoding=coding)

    assert (await client.get(path, Accept_Encoding="gzip")).body == b"content"
