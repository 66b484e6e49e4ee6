"""One gateway for all HTTP tests, and others for what needs settings of its own.

The tests share one event loop, the one that production uses, because a gateway that lives as long as
the session must not lose its loop after the first test.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
import uvloop

from tests.service.http.application import Application
from tests.service.http.site import Site, running_site

NewSite = Callable[..., contextlib.AbstractAsyncContextManager[Site]]
_HERE = Path(__file__).parent


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def site_home() -> Iterator[Callable[[], Path]]:
    """Give folders with names short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="sgh-") as folder:
        numbers = iter(range(1000))

        def home() -> Path:
            place = Path(folder) / str(next(numbers))
            place.mkdir()
            return place

        yield home


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_site(site_home: Callable[[], Path]) -> AsyncIterator[Site]:
    """Run the gateway that most tests share."""
    async with running_site(site_home()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def site(shared_site: Site) -> AsyncIterator[Site]:
    """Give the shared gateway with nothing broken; afterwards no upload is left half done."""
    shared_site.mend()
    yield shared_site
    shared_site.mend()
    await shared_site.settled()


@pytest.fixture
def new_site(site_home: Callable[[], Path]) -> NewSite:
    """Run another gateway, with settings of its own."""

    def start(**extra: Any) -> contextlib.AbstractAsyncContextManager[Site]:
        return running_site(site_home(), **extra)

    return start


@pytest_asyncio.fixture(loop_scope="session")
async def admin(site: Site) -> AsyncIterator[Application]:
    """Give a client that may do everything for every tenant."""
    async with site.application(await site.token()) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(admin: Application) -> str:
    """Create a tenant."""
    made = await admin.send("POST", "/v1/tenants")
    assert made.status == 201, made.body
    return str(made.json["tenant"])


@pytest.fixture
def path(tenant: str) -> str:
    """Give the path of an attachment that is not there yet."""
    return f"/v1/tenants/{tenant}/attachments/one"


@pytest_asyncio.fixture(loop_scope="session")
async def client(site: Site, tenant: str) -> AsyncIterator[Application]:
    """Give a client that may do everything for one fresh tenant."""
    async with site.application(await site.token(tenant)) as application:
        yield application


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """Capture every structured record."""
    with structlog.testing.capture_logs() as records:
        yield records
