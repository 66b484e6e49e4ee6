"""Several repairers on one site: leases, shifts, and what happens to a version meanwhile."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from gateway.errors import CatalogUnavailable, StoreUnavailable
from gateway.model import ReplicaState
from gateway.ports import Finding, Piece
from gateway.repair.repairer import Tally
from gateway.repair.verify import check_replica
from tests.doubles.blobs import flipped, overwrite
from tests.doubles.repair_site import Site


@pytest.fixture
def site() -> Site:
    return Site()


async def test_several_workers_share_and_none_does_what_another_did(site: Site) -> None:
    blobs = [await site.store() for _ in range(30)]
    tallies = await asyncio.gather(*(site.make().repair("east") for _ in range(3)))
    assert sum(tally.filled for tally in tallies) == 30
    assert sum(tally.whole for tally in tallies) == 0
    for blob in blobs:
        await check_replica(site.east, blob.version)


async def test_a_lease_is_renewed_for_as_long_as_it_takes(site: Site) -> None:
    await site.store()
    repairer = site.make(lease=5.0)
    site.east.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(repairer.repair("east"))
        await site.east.begun.wait()
        (row,) = [row for (_, target), row in site.replicas.rows.items() if target == "east"]
        first = row.until
        await _until(lambda: row.until > first)
        assert await site.replicas.claim(["east"], lease=timedelta(1), limit=9, newest=True) == []
        site.east.gate.set()
    assert task.result() == Tally(filled=1, bytes=task.result().bytes)


@pytest.mark.parametrize("how", ["the catalog is down", "another has it"])
async def test_whoever_lost_its_lease_stops(site: Site, how: str) -> None:
    blob = await site.store()
    repairer = site.make(lease=2.0)
    site.east.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(repairer.repair("east"))
        await site.east.begun.wait()
        if how == "another has it":
            site.replicas.rows[blob.version.id, "east"].until += timedelta(hours=1)
        else:
            site.replicas.deaf = True
        await _until(lambda: ("east", "lease") in site.figures.failures)
        site.replicas.rows.clear()  # or it would begin again
    assert task.result().filled == 0
    assert blob.envelope_key not in site.east.keys


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)


async def test_what_is_not_done_is_given_back_when_it_has_to_stop(site: Site) -> None:
    for _ in range(10):
        await site.store()
    site.east.gate.clear()
    task = asyncio.ensure_future(site.repairer.repair("east"))
    await site.east.begun.wait()
    task.cancel()
    await asyncio.wait([task])
    site.east.gate.set()
    assert (await site.make().repair("east")).filled == 10


async def test_what_was_purged_meanwhile_is_removed_again(site: Site) -> None:
    blob = await site.store()
    site.east.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(site.repairer.repair("east"))
        await site.east.begun.wait()
        del site.replicas.rows[blob.version.id, "east"]
        site.east.gate.set()
    assert len(site.east.keys) == 2  # the purge goes on, and may have been here before
    site.time += 31
    await site.repairer.repair("east")
    assert len(site.east.keys) == 2
    del site.replicas.versions[blob.version.id]
    site.time += 31
    await site.repairer.repair("east")
    assert len(site.east.keys) == 2  # forgotten, not purged: others hold it
    await site.primary.delete(blob.envelope_key)
    site.time += 31
    await site.repairer.repair("east")
    assert site.east.keys == []


async def test_a_write_that_failed_behind_somebody_elses_back_is_a_gap_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore brought the replica back just before this repairer removed what it took for damaged."""
    blob = await site.store(on=("primary", "east"))
    await overwrite(site.east, blob.body_key, flipped(blob.body, 8))
    found = Finding(blob.version.id, "east", ReplicaState.DAMAGED)
    await site.replicas.report([found])

    async def put(key: str, piece: Piece) -> None:
        del key, piece
        await site.replicas.report([replace(found, state=ReplicaState.STORED)])
        raise StoreUnavailable("busy")

    with monkeypatch.context() as patched:
        patched.setattr(site.east, "put", put)
        assert (await site.repairer.repair("east")).failed == 1
    assert blob.body_key not in site.east.keys
    assert site.replicas.states(blob.version)["east"] == "missing"
    assert (await site.make().repair("east")).filled == 1
    await check_replica(site.east, blob.version)


async def test_what_was_purged_while_its_write_seemed_to_fail_is_removed_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await site.store()
    write = site.east.put

    async def put(key: str, piece: Piece) -> None:
        await write(key, piece)
        if key == blob.envelope_key:  # the purger was here before
            site.replicas.rows.clear()
            site.replicas.versions.clear()
            await site.primary.delete(key)
            raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(site.east, "put", put)
    assert (await site.repairer.repair("east")).failed == 1
    assert len(site.east.keys) == 2
    site.time += 100
    await site.repairer.repair("east")
    assert site.east.keys == []


@dataclass
class Pages:
    """What a shift told of its progress; it may be told to stop."""

    saved: list[dict[str, int]] = field(default_factory=list)
    lost: bool = False

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        assert cursor == ""
        if self.lost:
            raise CatalogUnavailable("lost")
        self.saved.append(dict(progress))


async def test_a_shift_fills_what_comes_and_ends(site: Site) -> None:
    first = await site.store()
    pages = Pages()
    async with asyncio.TaskGroup() as tasks:
        shift = tasks.create_task(site.repairer.shift("east", pages))
        await _until(lambda: first.envelope_key in site.east.keys)
        second = await site.store()
        third = await site.store()
        del site.replicas.rows[third.version.id, "east"]  # nobody told the catalog of this target
        await _until(lambda: second.envelope_key in site.east.keys)
        assert third.envelope_key not in site.east.keys
        site.time += 3599
        await _until(shift.done)
    assert shift.result()["filled"] == 2
    assert pages.saved


async def test_once_is_until_nothing_is_due(site: Site) -> None:
    for _ in range(5):
        await site.store()
    assert (await site.repairer.once("east", Pages()))["filled"] == 5


async def test_a_shift_back_fills_a_new_target(site: Site) -> None:
    blob = await site.store()
    del site.replicas.rows[blob.version.id, "west"]
    async with asyncio.TaskGroup() as tasks:
        shift = tasks.create_task(site.repairer.shift("west", Pages()))
        await _until(lambda: blob.envelope_key in site.west.keys)
        site.time += 3600
    assert shift.result()["adopted"] == 1


async def test_what_could_not_be_adopted_is_the_next_time(site: Site) -> None:
    blob = await site.store()
    del site.replicas.rows[blob.version.id, "west"]
    site.replicas.down = True
    with pytest.raises(CatalogUnavailable):
        await site.repairer.once("west", Pages())
    site.replicas.down = False
    assert (await site.repairer.once("west", Pages()))["adopted"] == 1


async def test_a_shift_that_another_took_over_stops(site: Site) -> None:
    with pytest.raises(CatalogUnavailable, match="lost"):
        await site.repairer.shift("east", Pages(lost=True))
