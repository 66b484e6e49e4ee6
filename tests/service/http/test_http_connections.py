"""Connections beyond the caps are closed at once and counted; those within are served."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from gateway.http import connection
from keyservice.certs import issue
from tests.service.http.conftest import NewSite
from tests.service.http.eventually import eventually
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALL, OF_ONE = 8, 5
HERE, THERE = "127.0.0.1", "127.0.0.2"


class From(Wire):
    """A connection from an address of this machine."""

    def __init__(self, site: Site, address: str = HERE) -> None:
        super().__init__(site.url)
        self._address = address

    async def __aenter__(self) -> Self:
        url, own = URL(self._url), (self._address, 0)
        opened = asyncio.open_connection(url.host, url.port, local_addr=own)
        self.reader, self.writer = await opened
        return self

    async def served(self) -> bool:
        """Tell whether a request is answered."""
        try:
            await self.request("GET", "/livez")
            return (await self.answer()).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    async def figures(self) -> dict[str, int]:
        """Return what the gateway says about its connections."""
        await self.request("GET", "/metrics")
        text = (await self.answer()).body.decode()
        found = re.findall(
            r"^sealgate_(connections(?:_refused_total\S*)?) (\d+)\.\d", text, re.MULTILINE
        )
        return {name: int(number) for name, number in found}


@pytest_asyncio.fixture(loop_scope="session")
async def capped(new_site: NewSite) -> AsyncIterator[Site]:
    """Run a gateway with few connections."""
    async with new_site(limits={"connections": ALL, "address_connections": OF_ONE}) as site:
        yield site


async def opened(stack: AsyncExitStack, site: Site, count: int, address: str = HERE) -> list[From]:
    """Open connections that are served."""
    made = [await stack.enter_async_context(From(site, address)) for _ in range(count)]
    assert all([await each.served() for each in made])
    return made


async def test_one_address_cannot_take_every_connection(capped: Site) -> None:
    async with AsyncExitStack() as stack:
        mine = await opened(stack, capped, OF_ONE)
        refused = [await stack.enter_async_context(From(capped)) for _ in range(20)]
        assert not any([await each.served() for each in refused])
        (other,) = await opened(stack, capped, 1, THERE)

        assert await other.figures() == {
            "connections": OF_ONE + 1,
            'connections_refused_total{cap="address"}': 20,
            'connections_refused_total{cap="all"}': 0,
        }
        assert all([await each.served() for each in mine])
        await opened(stack, capped, ALL - OF_ONE - 1, THERE)
        last = await stack.enter_async_context(From(capped, THERE))
        assert not await last.served()
        assert (await other.figures())['connections_refused_total{cap="all"}'] == 1

        mine[0].abort()

        async def room() -> bool:
            return await (await stack.enter_async_context(From(capped))).served()

        await eventually(room)
        assert (await other.figures())["connections"] == ALL


async def test_a_flood_leaves_nothing(capped: Site) -> None:
    async with AsyncExitStack() as stack:
        (watch,) = await opened(stack, capped, 1, THERE)
        for _ in range(10):
            flood = await asyncio.gather(*(From(capped).__aenter__() for _ in range(50)))
            for each in flood:
                each.abort()

        async def alone() -> bool:
            return (await watch.figures())["connections"] == 1

        await eventually(alone)
        await opened(stack, capped, OF_ONE)


async def test_nothing_is_no_cap(new_site: NewSite) -> None:
    async with (
        new_site(limits={"connections": 0, "address_connections": 0}) as site,
        AsyncExitStack() as stack,
    ):
        await opened(stack, site, 100)


@pytest_asyncio.fixture(loop_scope="session")
async def secure(
    request: pytest.FixtureRequest, new_site: NewSite, site_home: Callable[[], Path]
) -> AsyncIterator[tuple[Site, ssl.SSLContext]]:
    """Run a gateway with few connections that speaks TLS."""
    place = site_home() / "certs"
    await asyncio.to_thread(issue, place, server_names=[HERE], gateway_name="x", days=1)
    files = {"certificate": "keyservice.crt", "private_key": "keyservice.key"}
    tls = {name: place / file for name, file in files.items()}
    limits = {"address_connections": OF_ONE, "head_timeout": getattr(request, "param", 300.0)}
    async with new_site(tls=tls, limits=limits) as site:
        yield site, ssl.create_default_context(cafile=str(place / "ca.crt"))


async def test_connections_over_tls_are_counted_too(
    secure: tuple[Site, ssl.SSLContext],
) -> None:
    site, context = secure
    port = URL(site.url).port
    async with AsyncExitStack() as stack:
        for _ in range(OF_ONE):
            _, writer = await asyncio.open_connection(HERE, port, ssl=context)
            stack.callback(writer.close)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{site.url}/livez", ssl=context)


@pytest.mark.parametrize("secure", [1.0], indirect=True)  # seconds for it
async def test_a_handshake_that_does_not_come_is_cut(
    secure: tuple[Site, ssl.SSLContext],
) -> None:
    site, _ = secure
    async with From(site) as wire:
        assert await wire.closed() == b""


async def test_an_idle_connection_is_closed(
    new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEEPALIVE", 0.5)
    async with new_site() as site, From(site) as wire:
        assert await wire.served()
        assert await wire.closed() == b""


@pytest.mark.parametrize("length", ["Content-Length: 65537", "Transfer-Encoding: chunked"])
async def test_a_json_body_has_an_end(site: Site, length: str) -> None:
    token = await site.token()
    async with Wire(site.url) as wire:
        await wire.request("POST", "/v1/tenants", f"Authorization: Bearer {token}", length)
        if "chunked" in length:
            await wire.send(
                b"ffff\r\n" + bytes(65535) + b"\r\n2\r\n\0\0\r\n"
            )  # and more could come
        answer = await wire.answer()
    assert answer.status == 413
    assert b"urn:sealgate:problem:too-large" in answer.body


async def test_a_json_body_that_hardly_comes_is_refused(new_site: NewSite) -> None:
    async with new_site(limits={"slow_grace": 1.0}) as site, Wire(site.url) as wire:
        token = await site.token()
        field = f"Authorization: Bearer {token}"
        await wire.request("POST", "/v1/tenants", field, "Content-Length: 20", body=b"{")
        answer = await wire.answer()
    assert answer.status == 408
    assert b"urn:sealgate:problem:too-slow" in answer.body
    assert answer.headers["Connection"] == "close"
