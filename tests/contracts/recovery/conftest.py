"""The catalogs of the catalog's own suite, and empty ones to load a dump into."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import new_id
from tests.contracts.catalog.conftest import (
    PATIENCE,
    catalog,
    clock,
    empty_postgres,
    migrated_postgres,
    pristine_sqlite,
    tenant,
    url,
)
from tests.contracts.catalog.samples import FakeClock
from tests.contracts.recovery.dumps import Fresh
from tests.servers.postgres import Postgres

__all__ = [
    "catalog",
    "clock",
    "empty_postgres",
    "migrated_postgres",
    "pristine_sqlite",
    "tenant",
    "url",
]


@pytest.fixture
async def fresh(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Fresh]:
    """Give a function that makes an empty catalog on a kind of database."""
    async with AsyncExitStack() as stack:

        async def make(kind: str) -> SqlCatalog:
            url = f"sqlite:///{tmp_path}/{new_id()}.db"
            if kind == "postgresql":
                postgres: Postgres = request.getfixturevalue("postgres")
                url = await asyncio.to_thread(postgres.new_database)
            await migrate(url)
            catalog = await open_catalog(url, patience=PATIENCE, clock=clock)
            stack.push_async_callback(catalog.close)
            return catalog

        yield make
