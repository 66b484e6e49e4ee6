"""Every process tells which rotations were missed, as the last round found it."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.http.key_figures import KeyFigures
from gateway.ports import RunState
from gateway.rotation.overdue import Overdue
from gateway.rotation.rounds import KEYS, KIND

BRIEF = timedelta()
LEASE = timedelta(hours=1)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url, patience=20.0)
    yield catalog
    await catalog.close()


class Process:
    """A process that may never have made a round."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self._registry = CollectorRegistry()
        self.overdue = Overdue(catalog.runs, KeyFigures(self._registry, []))

    async def shown(self) -> tuple[float | None, ...]:
        await self.overdue.refresh()
        name = "sealgate_key_rotation_overdue"
        return tuple(self._registry.get_sample_value(name, {"of": of}) for of in KEYS)


async def leave(catalog: SqlCatalog, state: RunState, outcome: Mapping[str, object]) -> None:
    """Put a round on record."""
    run = await catalog.runs.claim(KIND, "", holder="w", every=BRIEF, lease=LEASE)
    assert run is not None
    if state is not RunState.RUNNING:
        assert await catalog.runs.end(run, state, outcome)


def found(kek: int, root: int, shared: int) -> dict[str, int]:
    return {"overdue_kek": kek, "overdue_root": root, "overdue_shared-root": shared}


async def test_all_processes_tell_what_the_last_round_found(catalog: SqlCatalog) -> None:
    one, other = Process(catalog), Process(catalog)
    assert await one.shown() == (0, 0, 0), "before the first round"
    await leave(catalog, RunState.DONE, found(2, 0, 1))
    assert await one.shown() == await other.shown() == (2, 0, 1)
    # One that failed at a rotation got round all the same; one that got nowhere says nothing.
    await leave(catalog, RunState.FAILED, {**found(3, 1, 1), "error": "DutyFailed"})
    await leave(catalog, RunState.FAILED, {"error": "CatalogUnavailable"})
    await leave(catalog, RunState.RUNNING, {})
    assert await one.shown() == (3, 1, 1)
    assert await Process(catalog).shown() == (3, 1, 1), "one that came up since"


async def test_what_is_made_up_for_is_overdue_no_more(catalog: SqlCatalog) -> None:
    process = Process(catalog)
    await leave(catalog, RunState.FAILED, found(1, 0, 0))
    assert await process.shown() == (1, 0, 0)
    await leave(catalog, RunState.DONE, found(0, 0, 0))
    assert await process.shown() == (0, 0, 0)
