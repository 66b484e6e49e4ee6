"""The catalog on both databases. `url` names a migrated, empty one; `catalog` is it, opened."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.catalog.tables import metadata
from gateway.model import Tenant, new_id
from tests.contracts.catalog.samples import START, TICKER, FakeClock, Time
from tests.servers.postgres import Postgres

PATIENCE = 20.0  # the machine that runs the tests may be busy


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """Give the DSN of a migrated database that the session shares."""
    dsn = postgres.new_database()
    asyncio.run(migrate(dsn))
    return dsn


@pytest.fixture
def empty_postgres(migrated_postgres: str) -> Callable[[], None]:
    """Give a function that empties the shared database."""

    async def empty() -> None:
        connection = await asyncpg.connect(migrated_postgres)
        await connection.execute(f"TRUNCATE {', '.join(metadata.tables)}")
        await connection.close()

    return lambda: asyncio.run(empty())


@pytest.fixture(scope="session")
def pristine_sqlite(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the content of a migrated, empty file."""
    path = tmp_path_factory.mktemp("catalog") / "pristine.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path.read_bytes()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of a migrated, empty database."""
    if request.param == "postgresql":
        request.getfixturevalue("empty_postgres")()
        dsn = request.getfixturevalue("migrated_postgres")
        assert isinstance(dsn, str)
        return dsn
    path = tmp_path / "catalog.db"
    path.write_bytes(request.getfixturevalue("pristine_sqlite"))
    return f"sqlite:///{path}"


@pytest.fixture
def clock() -> FakeClock:
    """Give the clock by which the catalog goes."""
    return FakeClock()


@pytest.fixture
async def catalog(url: str, clock: FakeClock) -> AsyncIterator[SqlCatalog]:
    """Give an open, empty catalog."""
    catalog = await open_catalog(url, patience=PATIENCE, clock=clock)
    yield catalog
    await catalog.close()


@pytest.fixture
async def several(url: str, clock: FakeClock) -> AsyncIterator[list[SqlCatalog]]:
    """Give open catalogs that share nothing but the database, as several processes would."""
    opened = [await open_catalog(url, patience=PATIENCE, clock=clock) for _ in range(3)]
    yield opened
    for each in opened:
        await each.close()


@pytest.fixture
async def tenant(catalog: SqlCatalog) -> str:
    """Give the id of a tenant."""
    tenant = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(tenant)
    return tenant.id


@pytest.fixture
async def time(catalog: SqlCatalog, clock: FakeClock) -> Time:
    """Give time, whose first tick is done."""
    await catalog.bin.tick(timedelta(), TICKER)
    return Time(catalog, clock)
