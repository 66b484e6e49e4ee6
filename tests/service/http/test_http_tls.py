"""The listener over TLS, and on a Unix socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from keyservice.certs import issue
from tests.service.http.conftest import NewSite
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
MiB = 1024 * 1024


@pytest_asyncio.fixture(loop_scope="session")
async def certificates(site_home: Callable[[], Path]) -> Path:
    """Make a CA and a certificate for this machine."""
    place = site_home() / "certs"
    names = ["127.0.0.1"]
    await asyncio.to_thread(issue, place, server_names=names, gateway_name="x", days=1)
    return place


@pytest_asyncio.fixture(loop_scope="session")
async def secure(new_site: NewSite, certificates: Path) -> AsyncIterator[Site]:
    """Run a gateway that speaks TLS."""
    files = {"certificate": "keyservice.crt", "private_key": "keyservice.key"}
    tls = {name: certificates / file for name, file in files.items()}
    async with new_site(tls=tls) as site:
        yield site


def _context(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates / "ca.crt"))


async def _stored(
    session: aiohttp.ClientSession, site: Site, context: ssl.SSLContext, body: bytes
) -> str:
    made = await session.post(f"{site.url}/v1/tenants", ssl=context)
    place = f"{site.url}/v1/tenants/{(await made.json())['tenant']}/attachments/one"
    async with session.put(place, data=body, ssl=context) as answer:
        assert answer.status == 201
    return place


async def test_a_round_trip(secure: Site, certificates: Path) -> None:
    context = _context(certificates)
    headers = {"Authorization": f"Bearer {await secure.token()}"}

    assert secure.url.startswith("https://")
    async with aiohttp.ClientSession(headers=headers) as session:
        place = await _stored(session, secure, context, bytes(MiB))
        async with session.get(place, ssl=context) as answer:
            assert await answer.read() == bytes(MiB)


async def test_a_cut_download_is_no_clean_end(secure: Site, certificates: Path) -> None:
    context = _context(certificates)
    headers = {"Authorization": f"Bearer {await secure.token()}"}

    async with aiohttp.ClientSession(headers=headers) as session:
        place = await _stored(session, secure, context, bytes(900_000))
        for store in secure.stores.values():
            store.faults.damage_from = 500_000
        async with session.get(place, ssl=context) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_that_are_spoken(
    secure: Site, certificates: Path, version: ssl.TLSVersion
) -> None:
    context = _context(certificates)
    context.minimum_version = context.maximum_version = version

    async with aiohttp.ClientSession() as session:
        answer = await session.get(f"{secure.url}/livez", ssl=context)
        assert answer.status == 200


async def test_an_old_version_is_refused(secure: Site, certificates: Path) -> None:
    context = _context(certificates)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{secure.url}/livez", ssl=context)


async def test_on_a_unix_socket(new_site: NewSite, site_home: Callable[[], Path]) -> None:
    socket = site_home() / "gateway.sock"

    async with new_site(listen={"unix_socket": socket}) as site:
        assert site.url == f"unix://{socket}"
        headers = {"Authorization": f"Bearer {await site.token()}"}
        connector = aiohttp.UnixConnector(str(socket))
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
            made = await session.post("/v1/tenants", headers=headers)
            assert made.status == 201
