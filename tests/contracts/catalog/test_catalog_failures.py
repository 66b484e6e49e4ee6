"""Whatever becomes of the database, callers see catalog errors, and no word of what it holds."""

import inspect
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.catalog.tables import metadata
from gateway.errors import CatalogConflict, CatalogError, CatalogUnavailable
from gateway.model import Attachment, Precondition, Tenant, Token, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import (
    ANY,
    LEASE,
    NO_TIME,
    START,
    STORED,
    new_operation,
    new_upload,
    put,
    version_of,
)
from tests.servers.postgres import Postgres

CANARY = "canary-7c1d"
TENANT = new_id()
UPLOAD = new_upload(TENANT)
_ATTACHMENT = Attachment(UPLOAD.attachment, TENANT, CANARY, START)
EVERY_METHOD: dict[str, Callable[[Catalog], Awaitable[object]]] = {
    "add_tenant": lambda c: c.add_tenant(Tenant(TENANT, CANARY, START)),
    "tenant": lambda c: c.tenant(TENANT),
    "tenants": lambda c: c.tenants(None, 9),
    "set_tier": lambda c: c.set_tier(TENANT, "business"),
    "set_quorum": lambda c: c.set_quorum(TENANT, CANARY),
    "add_token": lambda c: c.add_token(Token(CANARY, b"", None, frozenset(), START, None)),
    "token": lambda c: c.token(CANARY),
    "tokens": lambda c: c.tokens(None),
    "remove_token": lambda c: c.remove_token(CANARY),
    "begin": lambda c: c.begin(UPLOAD, CANARY),
    "touch": lambda c: c.touch([UPLOAD.id]),
    "commit": lambda c: c.commit(
        version_of(UPLOAD, _ATTACHMENT), STORED, ANY, (TENANT, CANARY.encode())
    ),
    "committed": lambda c: c.committed(UPLOAD.id),
    "fence": lambda c: c.fence(UPLOAD.id),
    "stale": lambda c: c.stale(NO_TIME, 9),
    "forget": lambda c: c.forget(UPLOAD.id),
    "known": lambda c: c.known([UPLOAD.blob]),
    "running": lambda c: c.running([UPLOAD.blob]),
    "find": lambda c: c.find(TENANT, CANARY),
    "by_version": lambda c: c.by_version(TENANT, UPLOAD.id),
    "versions": lambda c: c.versions(TENANT, CANARY),
    "list": lambda c: c.list(TENANT, CANARY, CANARY, 9),
    "trash": lambda c: c.trash(TENANT, CANARY, Precondition()),
    "claim": lambda c: c.claim(new_operation(TENANT, key=CANARY.encode()), LEASE),
    "release": lambda c: c.release(TENANT, CANARY.encode(), UPLOAD.id),
    "expire": lambda c: c.expire(NO_TIME),
    "check": lambda c: c.check(),
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def gutted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    """Give a catalog whose tables were dropped after it was opened."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    await migrate(url)
    catalog = await open_catalog(url, patience=PATIENCE)
    for table in ["alembic_version", *metadata.tables]:
        cascade = "CASCADE" if request.param == "postgresql" else ""
        drop = text(f"DROP TABLE {table} {cascade}")
        await catalog._database.write(lambda c, drop=drop: c.execute(drop) and None)  # type: ignore[misc]
    yield catalog
    await catalog.close()


def test_every_method_is_tried() -> None:
    port = {n for n, _ in inspect.getmembers(Catalog, inspect.isfunction) if n[0] != "_"}
    assert EVERY_METHOD.keys() == port - {"close"}


async def test_every_method_without_tables(gutted: SqlCatalog) -> None:
    for name, call in EVERY_METHOD.items():
        with pytest.raises(CatalogUnavailable) as caught:
            await call(gutted)
        _says_nothing(caught.value)
        assert name == "check" or caught.value.retry_after


async def test_every_method_after_close(catalog: SqlCatalog) -> None:
    await catalog.close()
    await catalog.close()
    for call in EVERY_METHOD.values():
        with pytest.raises(CatalogUnavailable, match="closed"):
            await call(catalog)


async def test_conflict_names_no_value(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    await catalog.begin(upload, CANARY)
    with pytest.raises(CatalogConflict) as caught:
        await catalog.begin(upload, CANARY + "/2")
    _says_nothing(caught.value)
    assert upload.id not in str(caught.value)


async def test_value_out_of_range(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, CANARY))
    for size in (-1, 2**70):
        with pytest.raises((CatalogError, OverflowError)) as caught:
            await catalog.commit(replace(version, size=size), STORED, ANY, None)
        assert isinstance(caught.value, CatalogError)
        _says_nothing(caught.value)
    await catalog.commit(version, STORED, ANY, None)


async def test_nothing_found_names_no_value(catalog: Catalog, tenant: str) -> None:
    for call in (
        catalog.find(tenant, CANARY),
        catalog.versions(tenant, CANARY),
        catalog.trash(tenant, CANARY, ANY),
        catalog.token(CANARY),
    ):
        with pytest.raises(Exception, match="no such") as caught:
            await call
        _says_nothing(caught.value)


async def test_failed_commit_leaves_nothing(catalog: Catalog, tenant: str) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "a"))
    operation = replace(new_operation(tenant), upload=upload.id)
    await catalog.claim(operation, LEASE)
    broken = replace(version, blob=upload.blob, size=-1)
    with pytest.raises(CatalogConflict):
        await catalog.commit(broken, STORED, ANY, (tenant, operation.key_hash))
    assert await catalog.list(tenant, "", None, 9) == []
    await catalog.commit(version, STORED, ANY, (tenant, operation.key_hash))
    await put(catalog, tenant, "a")


def _says_nothing(error: BaseException) -> None:
    said = "".join(traceback.format_exception(error)) + repr(error)
    assert CANARY not in said.replace(f'"{CANARY}"', "")
