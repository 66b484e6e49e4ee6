"""A target that is gone for good is forgotten, on record, and only if nobody needs it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import ReplicaState, Tenant, new_id, now
from gateway.ports import RunState, Trace
from gateway.recovery.departure import KIND, LIVELY, Departure, StillNeeded
from tests.contracts.catalog.samples import put

STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING
BOTH = {"primary": STORED, "west": STORED}


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url, patience=20.0)
    yield catalog
    await catalog.close()


@pytest.fixture
async def tenant(catalog: SqlCatalog) -> str:
    tenant = Tenant(new_id(), "standard", now())
    await catalog.add_tenant(tenant)
    return tenant.id


def departure(catalog: SqlCatalog, *configured: str, later: timedelta = timedelta()) -> Departure:
    return Departure(
        catalog.traces,
        catalog.placements,
        catalog.runs,
        configured or ("primary", "east"),
        clock=lambda: now() + later,
    )


async def test_it_is_forgotten_and_that_is_on_record(catalog: SqlCatalog, tenant: str) -> None:
    for name in ("a", "b"):
        await put(catalog, tenant, name, replicas=BOTH)
    leave, told = departure(catalog), list[Trace]()
    assert await leave.known() == [("east", True), ("primary", True), ("west", False)]
    done = await leave.forget("west", reason="burnt down", told=told.append)
    assert (done.gone, done.left, done.lost) == (Trace("west", 2), Trace("west"), 0)
    assert told == [Trace("west", 2)]
    (run,) = await catalog.runs.history(KIND)
    assert (run.subject, run.state) == ("west", RunState.DONE)
    assert run.outcome["reason"] == "burnt down"
    assert (run.outcome["replicas"], run.outcome["left"]) == (2, 0)
    again = await leave.forget("west", reason="once more")
    assert again.gone.empty
    assert len(await catalog.runs.history(KIND)) == 1, "where nothing was done nothing is recorded"


async def test_not_while_it_is_configured_or_the_primary(catalog: SqlCatalog, tenant: str) -> None:
    await put(catalog, tenant, "a", replicas=BOTH)
    with pytest.raises(StillNeeded, match="west is configured"):
        await departure(catalog, "primary", "west").forget("west", reason="")
    await catalog.placements.promote("west", epoch=0)
    with pytest.raises(StillNeeded, match="west is the primary"):
        await departure(catalog).forget("west", reason="")
    assert await catalog.traces.of("west") == Trace("west", 1)


async def test_not_while_somebody_works_on_it(catalog: SqlCatalog, tenant: str) -> None:
    await put(catalog, tenant, "a", replicas=BOTH)
    hour = timedelta(hours=1)
    run = await catalog.runs.claim("scrub", "west", holder="me", every=hour, lease=hour)
    assert run is not None
    # However much was done on it since that began.
    for number in range(101):
        short = await catalog.runs.claim(f"{number}", "west", holder="me", every=hour, lease=hour)
        assert short is not None
        await catalog.runs.end(short, RunState.DONE, {})
    with pytest.raises(StillNeeded, match=r"somebody works on west \(scrub\)"):
        await departure(catalog).forget("west", reason="")
    late = departure(catalog, later=2 * LIVELY)
    assert (await late.forget("west", reason="who did is gone")).left.empty


async def test_not_while_the_last_copy_may_be_there(catalog: SqlCatalog, tenant: str) -> None:
    only = await put(catalog, tenant, "a", replicas={"west": STORED, "primary": MISSING})
    await put(catalog, tenant, "b", replicas=BOTH)
    leave = departure(catalog)
    trace, last = await leave.look("west")
    assert (trace.replicas, [each.id for each in last]) == (2, [only.id])
    with pytest.raises(StillNeeded, match="the last copies of 1 versions"):
        await leave.forget("west", reason="")
    assert await catalog.traces.of("west") == trace, "all or nothing"
    done = await leave.forget("west", reason="lost", accept_loss=True)
    assert (done.gone.replicas, done.lost) == (2, 1)
    (run,) = await catalog.runs.history(KIND)
    assert run.outcome["lost"] == 1


async def test_what_comes_meanwhile_is_told(
    catalog: SqlCatalog, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last copy that appears while it works stays, and the run did not end well."""
    await put(catalog, tenant, "a", replicas=BOTH)
    forget = catalog.traces.forget

    async def slowly(*words: object, **more: object) -> Trace:
        if not (await catalog.traces.of("west")).stale:
            await put(catalog, tenant, new_id(), replicas={"west": STORED})
        monkeypatch.undo()
        return await forget(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog.traces, "forget", slowly)
    done = await departure(catalog).forget("west", reason="an old gateway still runs")
    assert (done.gone.replicas, done.left.replicas) == (1, 1)
    (run,) = await catalog.runs.history(KIND)
    assert (run.state, run.outcome["left"]) == (RunState.FAILED, 1)
