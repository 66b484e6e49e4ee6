"""Mutual TLS: who gets in, by which name, and what the others see."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable

import aiohttp
import pytest

from keyservice.certs import issue
from keyservice.errors import Denied, Unauthenticated, Unavailable
from keyservice.tls import client_context
from keyservice.wire import DataKey, WrappedKey
from keyservice.wiring.app import running
from tests.service.keyservice.conftest import Site

CALL = {"reason": "test", "request_id": "r-1"}


async def test_a_gateway_of_the_ca_is_served(site: Site, tenant: str) -> None:
    async with running(site.tls_settings()) as service, site.tls_client(service.url) as client:
        assert service.url.startswith("https://")
        assert (await client.status()).root == "local"
        await client.create_tenant(tenant)
        key = (await client.data_keys(tenant, [b"c"], **CALL))[0]
        assert isinstance(key, DataKey)
        assert await client.unwrap(tenant, [WrappedKey(key.wrapped, b"c")], **CALL) == [key.dek]
    audit = await asyncio.to_thread((site.folder / "audit.jsonl").read_text)
    assert audit.count('"caller":"dns:gateway.sealgate.internal"') == 3


async def test_a_client_certificate_of_another_ca_is_refused(
    site: Site, make_site: Callable[[str], Site]
) -> None:
    other = await asyncio.to_thread(make_site, "other")
    async with running(site.tls_settings()) as service:
        own = other.folder / "certs"
        certificate, private_key = own / "gateway.crt", own / "gateway.key"
        async with site.tls_client(
            service.url, timeout=1, certificate=certificate, private_key=private_key
        ) as client:
            with pytest.raises(Unavailable):
                await client.status()


async def test_a_server_certificate_of_another_ca_is_refused(
    site: Site, make_site: Callable[[str], Site]
) -> None:
    other = await asyncio.to_thread(make_site, "other")
    async with (
        running(site.tls_settings()) as service,
        other.tls_client(service.url, timeout=1) as client,
    ):
        with pytest.raises(Unavailable):
            await client.status()


async def test_a_server_under_another_name_is_refused(site: Site) -> None:
    async with running(site.tls_settings()) as service:
        url = service.url.replace("127.0.0.1", "localhost")
        async with site.tls_client(url, timeout=1) as client:
            with pytest.raises(Unavailable):
                await client.status()


@pytest.mark.parametrize("path", ["/v1/status", "/livez", "/metrics"])
async def test_no_client_certificate_no_entry(site: Site, path: str) -> None:
    async with running(site.tls_settings()) as service:
        context = ssl.create_default_context(cafile=site.folder / "certs" / "ca.crt")
        async with aiohttp.ClientSession() as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(service.url + path, ssl=context)


async def test_older_tls_is_refused(site: Site) -> None:
    async with running(site.tls_settings()) as service:
        certs = site.folder / "certs"
        context = await asyncio.to_thread(
            client_context, certs / "ca.crt", certs / "gateway.crt", certs / "gateway.key"
        )
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        async with aiohttp.ClientSession() as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(service.url + "/livez", ssl=context)


async def test_plain_text_is_refused(site: Site) -> None:
    async with running(site.tls_settings()) as service, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(service.url.replace("https", "http") + "/livez")


def _leaf_without_names(site: Site) -> None:
    """Sign a certificate without any alternative name, with the site's own CA."""
    certs = site.folder / "certs"
    key, request, certificate = (certs / f"nameless.{end}" for end in ("key", "csr", "crt"))
    openssl = shutil.which("openssl")
    assert openssl
    new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [openssl, *new, "-subj", "/CN=gateway.sealgate.internal", "-keyout", key, "-out", request],
        check=True,
        capture_output=True,
    )
    authority = ["-CA", str(certs / "ca.crt"), "-CAkey", str(certs / "ca.key"), "-days", "1"]
    subprocess.run(
        [openssl, "x509", "-req", "-in", request, *authority, "-out", certificate],
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to sign")
async def test_a_common_name_is_no_identity(site: Site) -> None:
    await asyncio.to_thread(_leaf_without_names, site)
    async with (
        running(site.tls_settings()) as service,
        site.tls_client(service.url, "nameless") as client,
    ):
        with pytest.raises(Unauthenticated):
            await client.status()


async def test_a_token_is_worth_nothing_over_tls(site: Site) -> None:
    async with running(site.tls_settings()) as service:
        context = ssl.create_default_context(cafile=site.folder / "certs" / "ca.crt")
        headers = {"Authorization": f"Bearer {site.token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(service.url + "/v1/status", ssl=context)


async def test_a_name_the_policy_does_not_know_is_denied_and_on_record(
    site: Site, tenant: str
) -> None:
    policy = (site.folder / "policy.toml").read_text().replace("dns:gateway", "dns:another")
    (site.folder / "policy.toml").write_text(policy)
    async with running(site.tls_settings()) as service, site.tls_client(service.url) as client:
        with pytest.raises(Denied):
            await client.create_tenant(tenant)
        with pytest.raises(Denied):
            await client.data_keys(tenant, [b"c"], **CALL)
    audit = await asyncio.to_thread((site.folder / "audit.jsonl").read_text)
    assert audit.count('"outcome":"denied"') == 2


async def test_a_renewed_certificate_is_shown_after_a_reload(site: Site) -> None:
    async with running(site.tls_settings()) as service:
        async with site.tls_client(service.url) as client:
            await client.status()
        renewed = site.folder / "new"
        await asyncio.to_thread(
            lambda: issue(renewed, server_names=["127.0.0.1"], gateway_name="other", days=1)
        )
        for end in ("crt", "key"):
            source, target = (site.folder / f / f"keyservice.{end}" for f in ("new", "certs"))
            await asyncio.to_thread(shutil.copy, source, target)
        await service.reload()
        ca = site.folder / "new" / "ca.crt"
        async with site.tls_client(service.url, ca_file=ca) as client:
            await client.status()
        await asyncio.to_thread((site.folder / "certs" / "keyservice.crt").write_text, "broken")
        await service.reload()
        async with site.tls_client(service.url, ca_file=ca) as client:
            await client.status()
