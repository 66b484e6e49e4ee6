"""Migrations make what `tables` says, on both databases, and an old schema is refused."""

import asyncio
import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, column, insert, select, table, text, update

from gateway.catalog import migrate, open_catalog, revisions, schema, tables
from gateway.catalog.database import Database
from gateway.catalog.postgres import PostgresDatabase
from gateway.catalog.sqlite import SqliteDatabase
from gateway.catalog.tables import metadata
from gateway.errors import CatalogUnavailable
from gateway.model import ReplicaState, Retention, new_id, now
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import put
from tests.doubles.blobs import rewrapped, seal
from tests.servers.postgres import Postgres

HOUR = timedelta(hours=1)
_COMMA = re.compile(r",(?![^()]*\))|\)\s*$")  # outside of parentheses; what closes a table
_ON_SQLITE = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
_ON_POSTGRESQL = """
    SELECT table_name || '.' || column_name,
           concat_ws(' ', data_type, character_maximum_length, collation_name, is_nullable)
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL
    SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Give the URLs of two databases without tables."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{n}.db" for n in range(2)]
    postgres: Postgres = request.getfixturevalue("postgres")
    return [postgres.new_database() for _ in range(2)]


def _database(url: str) -> Database:
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return SqliteDatabase(path, readers=1, patience=PATIENCE)
    return PostgresDatabase(url, connections=1, patience=PATIENCE)


def _described(connection: Connection) -> dict[str, Any]:
    """Return every definition by name, in no order of columns and constraints."""
    on_sqlite = connection.dialect.name == "sqlite"
    rows = connection.execute(text(_ON_SQLITE if on_sqlite else _ON_POSTGRESQL))
    return {
        name: sorted(" ".join(part.split()) for part in _COMMA.split(definition.replace('"', "")))
        for name, definition in rows
        if "alembic" not in name
    }


async def _run(url: str, work: Any) -> Any:
    database = _database(url)
    try:
        return await database.write(work)
    finally:
        await database.close()


async def test_migrations_make_the_tables(empty_urls: list[str]) -> None:
    migrated, made = empty_urls
    await migrate(migrated)
    await _run(made, metadata.create_all)
    described = await _run(migrated, _described)
    assert described == await _run(made, _described)
    assert {"uq_attachments_live_reference", "ix_replicas_gaps"} <= described.keys()


async def test_autogenerate_finds_nothing_to_do(empty_urls: list[str]) -> None:
    url = empty_urls[0]
    await migrate(url)

    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    assert await _run(url, differences) == []


async def test_migrate_at_once_and_again(empty_urls: list[str]) -> None:
    url = empty_urls[0]
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(migrate(url))
    await migrate(url)
    catalog = await open_catalog(url, patience=PATIENCE)
    await catalog.check()
    await catalog.close()


async def test_open_asks_for_the_first_migration(empty_urls: list[str]) -> None:
    with pytest.raises(CatalogUnavailable, match="run `sealgate migrate`"):
        await open_catalog(empty_urls[0], patience=PATIENCE)


@pytest.mark.parametrize("statement", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
async def test_check_notices_that_the_schema_went(empty_urls: list[str], statement: str) -> None:
    url = empty_urls[0]
    await migrate(url)
    catalog = await open_catalog(url, patience=PATIENCE)
    await _run(url, lambda connection: connection.execute(text(statement)) and None)
    with pytest.raises(CatalogUnavailable, match="run `sealgate migrate`"):
        await catalog.check()
    await catalog.close()


async def test_open_refuses_an_older_schema(empty_urls: list[str]) -> None:
    url = empty_urls[0]
    await _run(url, partial(revisions.upgrade, to="0001"))
    with pytest.raises(CatalogUnavailable, match="too old: run `sealgate migrate`"):
        await open_catalog(url, patience=PATIENCE)


def test_revisions_are_one_line_of_numbers() -> None:
    found = [script.revision for script in revisions.scripts().walk_revisions()]
    assert found == [f"{n:04}" for n in range(len(found), 0, -1)]
    assert schema.known() == tuple(reversed(found))
    assert schema._older() == set(found[1:])


async def test_what_the_first_tables_held_is_kept(empty_urls: list[str]) -> None:
    url, tenant = empty_urls[0], new_id()
    await _run(url, partial(revisions.upgrade, to="0001"))
    sealed = "CAST('sealed' AS BLOB)" if url.startswith("sqlite") else "'sealed'"
    first, second, gone = (new_id() for _ in range(3))
    rows = [
        f"INSERT INTO tenants VALUES ('{tenant}', 'standard', 1)",
        f"INSERT INTO attachments VALUES ('{tenant}', '{tenant}', 'a', 2, NULL, NULL)",
        f"INSERT INTO attachments VALUES ('{gone}', '{tenant}', 'b', 2, 9, NULL)",
    ]
    for id_, of, number in ((first, tenant, 1), (second, tenant, 2), (gone, gone, 1)):
        columns = "id, attachment, number, blob, created, size, body_size, envelope"
        values = f"'{id_}', '{of}', {number}, '{id_}', {number}, 5, 7, {sealed}"
        rows += [
            f"INSERT INTO versions ({columns}) VALUES ({values})",
            f"UPDATE attachments SET current = {number} WHERE id = '{of}'",
            f"INSERT INTO replicas VALUES ('{id_}', 'primary', 'stored'), ('{id_}', 'b', 'missing')",
        ]
    for row in rows:
        await _run(url, lambda connection, row=row: connection.execute(text(row)) and None)

    await migrate(url)

    catalog = await open_catalog(url, patience=PATIENCE)
    found = await catalog.find(tenant, "a")
    assert (found.version.id, found.version.size, found.version.envelope) == (second, 5, b"sealed")
    both = {"primary": ReplicaState.STORED, "b": ReplicaState.MISSING}
    assert found.replicas == both
    assert [f.version.id for f in await catalog.versions(tenant, "a")] == [second, first]
    assert (await catalog.tenant(tenant)).quorum is None
    assert await catalog.bin.retention(tenant) == Retention()
    assert [t.version.id for t in await catalog.bin.trashed(tenant)] == [gone]
    gaps = await catalog.replicas.claim(["b"], lease=HOUR, limit=9, newest=True)
    assert {gap.version.id for gap in gaps} == {first, second, gone}
    assert all(gap.since == gap.version.created for gap in gaps)
    replaced = await _run(url, lambda c: c.execute(select(tables.replaced)).all())
    assert [(row.version, row.tenant) for row in replaced] == [(first, tenant)]
    assert abs(replaced[0].at - now()) < HOUR
    await catalog.close()


async def test_versions_get_the_keks_of_their_envelopes(empty_urls: list[str]) -> None:
    url, tenant = empty_urls[0], new_id()
    await _run(url, partial(revisions.upgrade, to="0002"))
    sealed = seal(b"x").version
    envelopes = [sealed.envelope, rewrapped(seal(b"y")).envelope, b"not one"]
    tables_ = {
        "tenants": [{"id": tenant, "tier": "standard", "created": 1}],
        "attachments": [{"id": tenant, "tenant": tenant, "reference": "a", "created": 1}],
        "versions": [
            {
                "id": f"{number:032}",
                "attachment": tenant,
                "number": number + 1,
                "blob": f"{number:032}",
                "created": 1,
                "size": 1,
                "body_size": 1,
                "envelope": envelope,
            }
            for number, envelope in enumerate(envelopes)
        ],
    }
    for name, rows in tables_.items():
        into = table(name, *(column(each) for each in rows[0]))
        await _run(url, lambda c, into=into, rows=rows: c.execute(insert(into), rows) and None)

    await migrate(url)

    keks = select(tables.versions.c.kek).order_by(tables.versions.c.id)
    assert await _run(url, lambda c: list(c.scalars(keks))) == ["k1", "k2", ""]
    catalog = await open_catalog(url, patience=PATIENCE)
    assert [each.version.id for each in await catalog.wraps.on_kek("k2")] == [f"{1:032}"]
    # As a gateway of the version before would write it.
    older = update(tables.versions).where(tables.versions.c.kek == "k2").values(kek="")
    await _run(url, lambda c: c.execute(older) and None)
    assert [each.version.id for each in await catalog.wraps.on_kek("k2")] == [f"{1:032}"]
    await catalog.close()


async def test_a_gateway_of_the_version_before_goes_on(empty_urls: list[str]) -> None:
    url = empty_urls[0]
    await migrate(url)
    catalog = await open_catalog(url, patience=PATIENCE)
    tenant = new_id()
    older = f"INSERT INTO tenants (id, tier, created) VALUES ('{tenant}', 'standard', 1)"
    await _run(url, lambda connection: connection.execute(text(older)) and None)
    version = await put(catalog, tenant, "a")
    for statement in (
        f"INSERT INTO replicas (version, target, state) VALUES ('{version.id}', 'c', 'missing')",
        f"UPDATE attachments SET deleted = 1 WHERE tenant = '{tenant}'",
    ):
        await _run(url, lambda c, statement=statement: c.execute(text(statement)) and None)
    (gap,) = await catalog.replicas.claim(["c"], lease=HOUR, limit=9, newest=True)
    assert (gap.version, gap.since) == (version, version.created)
    assert [trashed.version.id for trashed in await catalog.bin.trashed(tenant)] == [version.id]
    assert await catalog.bin.doom(9) == 0  # counted from now on
    await catalog.close()


async def test_open_accepts_a_newer_schema(empty_urls: list[str]) -> None:
    url = empty_urls[0]
    await migrate(url)
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await _run(url, lambda connection: connection.execute(newer) and None)
    await (await open_catalog(url, patience=PATIENCE)).close()
