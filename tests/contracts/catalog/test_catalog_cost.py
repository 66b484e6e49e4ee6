"""What a call costs on both databases: few statements, all by index, none on the event loop."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from sqlalchemy import Connection, Engine, Pool, event

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import Tenant, new_id
from gateway.ports import Finding, Rewrapped
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import (
    ANY,
    LEASE,
    START,
    STORED,
    kek_of,
    new_operation,
    new_upload,
    put,
    version_of,
)

_HEARD: list[list[str]] = []


@pytest.fixture(autouse=True)
def _told() -> Iterator[None]:
    """Hear of every statement: from SQLAlchemy, but from SQLite itself where that is the database."""

    def of_sqlalchemy(*args: Any) -> None:
        if args[0].dialect.name != "sqlite":
            _hear(args[2])

    def of_sqlite(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(_hear)

    event.listen(Engine, "before_cursor_execute", of_sqlalchemy)
    event.listen(Pool, "connect", of_sqlite)
    yield
    event.remove(Engine, "before_cursor_execute", of_sqlalchemy)
    event.remove(Pool, "connect", of_sqlite)


def _hear(statement: str) -> None:
    for heard in _HEARD:
        heard.append(statement)


@contextmanager
def _statements() -> Iterator[list[str]]:
    heard: list[str] = []
    _HEARD.append(heard)
    try:
        yield heard
    finally:
        _HEARD.remove(heard)


@pytest.fixture
async def full(catalog: SqlCatalog, tenant: str) -> str:
    """Give a tenant with attachments enough to make a scan stand out."""
    for number in range(30):
        await put(catalog, tenant, f"{number}")
    return tenant


async def test_reading_takes_two_statements(catalog: SqlCatalog, full: str) -> None:
    found = await catalog.find(full, "7")
    for call in (
        catalog.list(full, "", None, 100),
        catalog.list(full, "1", "1", 3),
        catalog.versions(full, "7"),
        catalog.find(full, "7"),
        catalog.find(full, "7", found.version.id),
        catalog.by_version(full, found.version.id),
    ):
        with _statements() as statements:
            await call
        assert len([s for s in statements if s.startswith("SELECT")]) == 2


async def test_everything_goes_by_an_index(catalog: SqlCatalog, full: str) -> None:
    with _statements() as statements:
        operation = new_operation(full)
        await catalog.claim(operation, LEASE)
        await catalog.claim(new_operation(full), LEASE)
        upload = new_upload(full)
        version = version_of(upload, await catalog.begin(upload, "new"))
        await catalog.touch([upload.id])
        await catalog.commit(version, STORED, ANY, None)
        await catalog.committed(upload.id)
        await catalog.begin(new_upload(full), "new")
        await catalog.list(full, "1", "11", 10)
        await catalog.find(full, "new")
        await catalog.by_version(full, version.id)
        await catalog.versions(full, "new")
        await catalog.versions(full, "new", version.id)
        await catalog.known([version.blob, new_id()])
        await catalog.fence(version.id)
        await catalog.forget(upload.id)
        await catalog.release(full, operation.key_hash, operation.upload)
        await catalog.trash(full, "new", ANY)
    plain = {s for s in statements if s.startswith(("SELECT", "UPDATE", "DELETE"))}
    plans = await catalog._database.write(lambda c: {s: _plan(c, s) for s in plain})
    assert len(plans) > 15
    for statement, plan in plans.items():
        assert not [line for line in plan if "Seq Scan" in line or line.startswith("SCAN")], (
            statement
        )
    (listing,) = (plan for statement, plan in plans.items() if "ORDER BY attachments" in statement)
    assert not [line for line in listing if "Sort" in line or "B-TREE" in line]


async def test_a_rotation_goes_by_an_index(catalog: SqlCatalog, full: str) -> None:
    old, new = kek_of(full), kek_of(full, 2)
    found = [each.version for each in await catalog.wraps.on_kek(old)]
    doomed = await catalog.trash(full, "3", ANY)
    await catalog.trash(full, "4", ANY)
    await catalog.bin.doom_now(full, doomed.id)
    with _statements() as statements:
        await catalog.wraps.on_kek(old, after=found[1].id, limit=3)
        await catalog.wraps.on_kek(old, attachment=found[0].attachment)
        changes = [Rewrapped(each.id, each.blob, old, new, b"") for each in found]
        assert len(await catalog.wraps.rewrap(changes)) == len(found) - 1
        first, second, *_ = await catalog.wraps.claim_stale(
            tenant=full, targets=["primary", "backup"], lease=LEASE, limit=9
        )
        await catalog.wraps.claim_stale(tenant=None, targets=["backup"], lease=LEASE, limit=9)
        await catalog.wraps.pushed(first, new)
        await catalog.wraps.failed_push(second, LEASE)
        await catalog.wraps.release_stale([second])
        await catalog.wraps.mark_stale(first.version.id, "backup", old)
        await catalog.wraps.uses(full)
        blob = new_id()
        await catalog.wraps.intend(first.version, blob, new)
        await catalog.wraps.switch(replace(first.version, blob=blob), first.version.blob, STORED)
        await catalog.wraps.leftovers(9)
        await catalog.wraps.leftover_gone(blob)
        seen = Finding(
            second.version.id, "primary", STORED["primary"], "", second.version.blob, old
        )
        await catalog.replicas.report([seen])
    plain = {s for s in statements if s.startswith(("SELECT", "UPDATE", "DELETE"))}
    plans = await catalog._database.write(lambda c: {s: _plan(c, s) for s in plain})
    for statement, plan in plans.items():
        scans = [line for line in plan if "Seq Scan" in line or line.startswith("SCAN")]
        # A list that came as a parameter is gone through, too.
        scans = [line for line in scans if "USING" not in line and "VIRTUAL TABLE" not in line]
        assert not scans, (statement, plan)
        # Not all that a target has, for a page of versions.
        assert not [line for line in plan if "ix_replicas_checked" in line], (statement, plan)
    (walk,) = {
        tuple(plan)
        for statement, plan in plans.items()
        if "ORDER BY versions.id" in statement and "versions.kek = " in statement
        if "versions.attachment = " not in statement.partition("WHERE")[2]
    }
    assert not [line for line in walk if "Sort" in line or "B-TREE" in line]


async def test_a_commit_costs_no_more_statements_than_it_writes(
    catalog: SqlCatalog, full: str
) -> None:
    upload = new_upload(full)
    version = version_of(upload, await catalog.begin(upload, "new"))
    with _statements() as statements:
        await catalog.commit(version, STORED, ANY, None)
    words = [s.split()[0] for s in statements]
    made = {word: words.count(word) for word in ("SELECT", "INSERT", "UPDATE", "DELETE")}
    assert made == {"SELECT": 2, "INSERT": 3, "UPDATE": 1, "DELETE": 1}


def _plan(connection: Connection, statement: str) -> list[str]:
    """Ask for the plan of a statement whose parameters are not known."""
    if connection.dialect.name == "sqlite":
        bare = connection.connection.cursor()
        bare.execute("EXPLAIN QUERY PLAN " + statement, [None] * statement.count("?"))
        return [row[3] for row in bare.fetchall()]
    for setting in ("enable_seqscan = off", "plan_cache_mode = force_generic_plan"):
        connection.exec_driver_sql(f"SET LOCAL {setting}")
    connection.exec_driver_sql(f"PREPARE it AS {statement}")
    nulls = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", statement))))
    rows = connection.exec_driver_sql(f"EXPLAIN EXECUTE it ({nulls})")
    plan = [row[0] for row in rows]
    connection.exec_driver_sql("DEALLOCATE it")
    return plan


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_nothing_blocks_the_loop(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('free')}/catalog.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    with blockbuster_ctx(scanned_modules=["gateway"]) as blockbuster:
        for function in blockbuster.functions.values():
            function.can_block_in("gateway/catalog/sqlite.py", "_look")  # on purpose: a glance
        await migrate(url)
        catalog = await open_catalog(url, patience=PATIENCE)
        tenant = Tenant(new_id(), "standard", START)
        await catalog.add_tenant(tenant)
        await put(catalog, tenant.id, "a")
        assert await catalog.list(tenant.id, "", None, 1)
        await catalog.check()
        await catalog.close()
