"""The ports beside `Catalog` end as it does when the database is gone or closed."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.catalog.tables import metadata
from gateway.errors import CatalogUnavailable
from gateway.model import Attachment, ReplicaState, Retention, new_id
from gateway.ports import (
    Bin,
    Finding,
    Gap,
    Placements,
    Replicas,
    Rewrapped,
    Rotation,
    Run,
    Runs,
    RunState,
    Shreds,
    Stale,
    Traces,
    Wraps,
)
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.samples import NO_TIME, START, new_upload, version_of
from tests.servers.postgres import Postgres

LEASE = timedelta(minutes=1)
ID = new_id()
UPLOAD = new_upload(ID)
VERSION = version_of(UPLOAD, Attachment(UPLOAD.attachment, ID, "a", START))
GAP = Gap(VERSION, "backup", ReplicaState.MISSING, START, 0, frozenset(), START)
STALE = Stale(VERSION, "backup", frozenset(), START, 0, START)
RUN = Run(ID, "scrub", "backup", "me", RunState.RUNNING, START, START)
Calls = Mapping[str, Callable[[SqlCatalog], Awaitable[object]]]
EVERY_METHOD: dict[type, Calls] = {
    Replicas: {
        "report": lambda c: c.replicas.report([Finding(ID, "backup", ReplicaState.MISSING)]),
        "adopt": lambda c: c.replicas.adopt("backup", 9),
        "claim": lambda c: c.replicas.claim(["backup"], lease=LEASE, limit=9, newest=True),
        "extend": lambda c: c.replicas.extend([GAP], LEASE),
        "filled": lambda c: c.replicas.filled(GAP, GAP.version.kek),
        "failed": lambda c: c.replicas.failed(GAP, LEASE),
        "release": lambda c: c.replicas.release([GAP]),
        "lag": lambda c: c.replicas.lag(["backup"]),
        "held": lambda c: c.replicas.held("backup", tenant=ID),
        "stranded": lambda c: c.replicas.stranded(["backup"]),
        "unchecked": lambda c: c.replicas.unchecked("backup", 9),
        "kept": lambda c: c.replicas.kept("backup"),
        "holding": lambda c: c.replicas.holding("backup"),
        "version": lambda c: c.replicas.version(ID),
        "owners": lambda c: c.replicas.owners([ID]),
    },
    Runs: {
        "claim": lambda c: c.runs.claim("scrub", "", holder="me", every=LEASE, lease=LEASE),
        "save": lambda c: c.runs.save(RUN),
        "release": lambda c: c.runs.release(RUN),
        "latest": lambda c: c.runs.latest(RunState.DONE),
        "end": lambda c: c.runs.end(RUN, RunState.DONE, {}),
        "history": lambda c: c.runs.history(),
        "prune": lambda c: c.runs.prune(LEASE),
    },
    Bin: {
        "retention": lambda c: c.bin.retention(ID),
        "retain": lambda c: c.bin.retain(ID, Retention()),
        "amend": lambda c: c.bin.amend(ID, lambda now: now),
        "trashed": lambda c: c.bin.trashed(ID),
        "undelete": lambda c: c.bin.undelete(ID, ID),
        "tick": lambda c: c.bin.tick(NO_TIME, ID),
        "doom": lambda c: c.bin.doom(9),
        "doom_now": lambda c: c.bin.doom_now(ID, ID),
        "doomed": lambda c: c.bin.doomed(9),
        "gone": lambda c: c.bin.gone(ID, "backup"),
        "purge": lambda c: c.bin.purge(ID),
    },
    Placements: {
        "placement": lambda c: c.placements.placement(),
        "promote": lambda c: c.placements.promote("backup", epoch=0),
    },
    Shreds: {
        "order": lambda c: c.shreds.order(ID, START),
        "bury": lambda c: c.shreds.bury([ID]),
        "shred": lambda c: c.shreds.shred(ID),
        "held": lambda c: c.shreds.held(ID),
        "due": lambda c: c.shreds.due(START),
    },
    Traces: {
        "targets": lambda c: c.traces.targets(),
        "of": lambda c: c.traces.of("backup"),
        "last": lambda c: c.traces.last("backup", ["primary"]),
        "forget": lambda c: c.traces.forget("backup", ["primary"], 9),
    },
    Wraps: {
        "on_kek": lambda c: c.wraps.on_kek("k1", after=ID, created_before=START, attachment=ID),
        "rewrap": lambda c: c.wraps.rewrap([Rewrapped(ID, ID, "k1", "k2", b"")]),
        "claim_stale": lambda c: c.wraps.claim_stale(
            tenant=ID, targets=["backup"], lease=LEASE, limit=9
        ),
        "pushed": lambda c: c.wraps.pushed(STALE, "k1"),
        "failed_push": lambda c: c.wraps.failed_push(STALE, LEASE),
        "release_stale": lambda c: c.wraps.release_stale([STALE]),
        "mark_stale": lambda c: c.wraps.mark_stale(ID, "backup", "k1"),
        "backlog": lambda c: c.wraps.backlog("backup"),
        "uses": lambda c: c.wraps.uses(ID),
        "retiring": lambda c: c.wraps.retiring(ID, "k1"),
        "begun": lambda c: c.wraps.begun(ID, START),
        "schedule": lambda c: c.wraps.schedule(ID),
        "set_schedule": lambda c: c.wraps.set_schedule(ID, Rotation()),
        "intend": lambda c: c.wraps.intend(VERSION, ID, "k1"),
        "switch": lambda c: c.wraps.switch(VERSION, ID, {}),
        "abandon": lambda c: c.wraps.abandon(ID),
        "doom_leftovers": lambda c: c.wraps.doom_leftovers(9),
        "leftovers": lambda c: c.wraps.leftovers(9),
        "leftover_gone": lambda c: c.wraps.leftover_gone(ID),
    },
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def gone(request: pytest.FixtureRequest, tmp_path: Path) -> SqlCatalog:
    """Give a catalog whose tables were dropped after it was opened."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    await migrate(url)
    catalog = await open_catalog(url, patience=PATIENCE)
    for table in metadata.tables:
        cascade = "CASCADE" if request.param == "postgresql" else ""
        drop = text(f"DROP TABLE {table} {cascade}")
        await catalog._database.write(lambda c, drop=drop: c.execute(drop) and None)  # type: ignore[misc]
    return catalog


@pytest.mark.parametrize("port", EVERY_METHOD)
def test_every_method_of_a_port_is_tried(port: type) -> None:
    methods = {n for n, _ in inspect.getmembers(port, inspect.isfunction) if n[0] != "_"}
    assert EVERY_METHOD[port].keys() == methods


async def test_every_method_of_every_port_without_tables_and_after_close(gone: SqlCatalog) -> None:
    calls = [call for of_port in EVERY_METHOD.values() for call in of_port.values()]
    for call in calls:
        with pytest.raises(CatalogUnavailable) as caught:
            await call(gone)
        assert caught.value.retry_after
        assert ID not in str(caught.value)
    await gone.close()
    for call in calls:
        with pytest.raises(CatalogUnavailable, match="closed"):
            await call(gone)
