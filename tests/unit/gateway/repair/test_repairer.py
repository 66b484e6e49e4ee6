"""The repairer over stores that fail on command, and a catalog in memory."""

import asyncio
from datetime import timedelta

import pytest

from gateway.errors import (
    CatalogUnavailable,
    StoreDamaged,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from gateway.model import now
from gateway.pacing.patience import LONGEST, backoff
from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.repairer import Repairer, RepairSettings, Tally
from gateway.repair.verify import check_replica
from gateway.targets.quorum import Role, Target
from tests.doubles.blobs import Blob, flipped, overwrite, piece
from tests.doubles.repair_site import DAMAGED, MISSING, PART, Site
from tests.doubles.stores import FaultyStore


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_a_backup_missed_is_brought_back(site: Site) -> None:
    blobs = [await site.store() for _ in range(5)]
    blobs += [await site.store(b"tiny", inline=True), await site.store(bytes(PART) * 3)]
    tally = await site.repairer.repair("east")
    for blob in blobs:
        await check_replica(site.east, blob.version)
        assert site.replicas.states(blob.version)["east"] == "stored"
        assert site.replicas.states(blob.version)["west"] == "missing"
    size = sum(blob.version.body_size for blob in blobs)
    assert tally == Tally(filled=7, bytes=size)
    assert sum(each for _, each in site.figures.done) == size
    assert not site.west.keys


async def test_a_damaged_replica_is_replaced(site: Site) -> None:
    blob = await site.store(on=("primary", "east", "west"))
    await overwrite(site.east, blob.body_key, flipped(blob.body, 99))
    site.replicas.rows[blob.version.id, "east"].state = DAMAGED
    await site.repairer.repair("east")
    await check_replica(site.east, blob.version)
    assert site.replicas.states(blob.version)["east"] == "stored"


@pytest.mark.parametrize("tries", [0, 1])
async def test_one_that_was_there_all_along_is_only_verified(site: Site, tries: int) -> None:
    blob = await site.store(on=("primary", "east"))
    row = site.replicas.rows[blob.version.id, "east"]
    row.state, row.tries = MISSING, tries
    before = dict(site.east._objects)
    tally = await site.repairer.repair("east")
    assert (tally.filled, tally.whole) == (1, tries)  # at first it is tried without looking
    assert site.east._objects == before


async def test_what_is_there_and_wrong_although_it_was_missing_is_replaced(site: Site) -> None:
    blob = await site.store()
    await site.east.put(blob.body_key, piece(blob.body[:-1]))
    await site.east.put(blob.envelope_key, piece(blob.sealed[:-1]))
    await site.repairer.repair("east")
    await check_replica(site.east, blob.version)


async def test_without_a_good_copy_nothing_is_touched_and_an_alarm_raised(site: Site) -> None:
    blob = await site.store(on=("primary", "east"))
    damaged = flipped(blob.body, 99)
    for store in (site.primary, site.east):
        await overwrite(store, blob.body_key, damaged)
    site.replicas.rows[blob.version.id, "east"].state = DAMAGED
    before = site.east.keys
    tally = await site.repairer.repair("east")
    assert tally == Tally(failed=1, unreadable=1)
    assert site.figures.failures == [("east", "no-good-copy")]
    assert site.east.keys == before
    assert b"".join([each async for each in site.east.read(blob.body_key)]) == damaged
    # What proved to be bad on the way is known now.
    assert site.replicas.states(blob.version)["primary"] == "damaged"


async def test_a_source_out_of_reach_is_no_reason_to_despair(site: Site) -> None:
    blob = await site.store()
    site.primary.read_limit, site.primary.read_fault = 0, StoreUnavailable("down")
    assert (await site.repairer.repair("east")).unreadable == 0
    assert site.figures.failures == [("east", "sources")]
    assert site.replicas.states(blob.version)["primary"] == "stored"


async def test_a_target_that_nobody_counts_on_may_be_the_source(site: Site) -> None:
    blob = await site.store(on=("west",))
    site.replicas.rows[blob.version.id, "west"].state = MISSING
    assert (await site.repairer.repair("east")).filled == 1


async def test_a_flipped_source_is_queued_for_healing_itself(site: Site) -> None:
    blob = await site.store(on=("primary", "west"))
    await overwrite(site.primary, blob.body_key, flipped(blob.body, 7))
    await site.repairer.repair("east")
    assert site.replicas.states(blob.version) == {
        "primary": "damaged",
        "east": "stored",
        "west": "stored",
    }
    await site.repairer.repair("primary")
    await check_replica(site.primary, blob.version)


async def test_newest_first_but_the_oldest_is_not_forgotten(site: Site) -> None:
    for _ in range(40):
        await site.store(b"tiny", inline=True)
    await site.repairer.repair("east")
    asked = site.replicas.claims
    assert asked[:8] == [True, True, True, False] * 2


@pytest.mark.parametrize(
    "error", [StoreUnavailable("down"), StoreFull("full")], ids=["down", "full"]
)
async def test_a_target_that_fails_rests_and_costs_the_gaps_nothing(
    site: Site, error: StoreUnavailable | StoreFull
) -> None:
    blobs = [await site.store() for _ in range(20)]
    site.east.fail = error
    await site.repairer.repair("east")
    tried = [row for row in site.replicas.rows.values() if row.tries]
    assert 1 <= len(tried) <= 2  # those that were on their way
    asked = len(site.east.calls)
    await site.repairer.repair("east")  # still resting
    assert len(site.east.calls) == asked
    site.east.fail = None
    site.time += 61
    for row in tried:
        row.due = now()
    await site.repairer.repair("east")
    for blob in blobs:
        await check_replica(site.east, blob.version)


async def test_a_target_that_rested_is_asked_before_anything_is_sent(site: Site) -> None:
    class Gone(FaultyStore):
        down = True

        async def check(self) -> None:
            if self.down:
                raise StoreUnavailable("down")

    gone = Gone()
    site.stores["east"] = gone
    repairer = site.make()
    for _ in range(3):
        await site.store()
    gone.fail = StoreUnavailable("down")
    await repairer.repair("east")
    calls, claims = len(gone.calls), len(site.replicas.claims)
    for _ in range(5):
        site.time += 61
        await repairer.repair("east")
    assert (len(gone.calls), len(site.replicas.claims)) == (calls, claims)
    gone.down, gone.fail = False, None
    site.time += 61
    for row in site.replicas.rows.values():
        row.due = now()
    assert (await repairer.repair("east")).filled == 3


async def test_one_gap_that_fails_by_itself_does_not_hold_up_the_others(site: Site) -> None:
    blobs = [await site.store() for _ in range(6)]
    site.east.fail, site.east.fail_on = StoreDamaged("odd"), "put envelope"
    assert (await site.repairer.repair("east")).failed == 6
    assert all(
        timedelta(seconds=7) <= each <= timedelta(seconds=15) for each in site.replicas.retries
    )
    del blobs


async def test_one_that_a_target_never_takes_does_not_hold_up_the_others_for_ever(
    site: Site,
) -> None:
    class Locked(FaultyStore):
        async def delete(self, key: str) -> None:
            raise StoreDenied(f"{key} is locked")

    site.stores["east"] = east = Locked()
    repairer = site.make()
    locked = await site.store(on=("primary", "east"))
    await overwrite_behind(east, locked)
    row = site.replicas.rows[locked.version.id, "east"]
    row.state, row.tries = DAMAGED, 6
    await repairer.repair("east")
    assert site.replicas.retries[-1] > timedelta(seconds=50)
    assert (row.tries, row.state) == (7, DAMAGED)


async def overwrite_behind(store: FaultyStore, blob: Blob) -> None:
    store._objects.pop(blob.body_key)
    await store.put(blob.body_key, piece(flipped(blob.body, 5)))


def test_patience_grows_to_an_hour_and_no_further() -> None:
    assert all(7.5 <= backoff(0) <= 15 for _ in range(50))
    assert all(LONGEST / 2 <= backoff(tries) <= LONGEST for tries in (9, 40, 10_000))
    assert len({backoff(3) for _ in range(10)}) > 1


async def test_a_catalog_that_is_down_is_told(site: Site) -> None:
    site.replicas.down = True
    with pytest.raises(CatalogUnavailable):
        await site.repairer.repair("east")


async def test_a_new_target_is_back_filled(site: Site) -> None:
    blobs = [await site.store(b"tiny", inline=True) for _ in range(3)]
    for blob in blobs:
        del site.replicas.rows[blob.version.id, "west"]
    assert (await site.repairer.repair("west")).filled == 0
    assert await site.repairer.adopt("west") == 3
    assert (await site.repairer.repair("west")).filled == 3


async def test_only_one_tenants_gaps_if_one_is_named(site: Site) -> None:
    mine, other = await site.store(), await site.store()
    await site.repairer.repair("east", tenant=mine.version.tenant)
    assert site.replicas.states(mine.version)["east"] == "stored"
    assert site.replicas.states(other.version)["east"] == "missing"


async def test_memory_is_bounded_over_all_copies() -> None:
    site = Site()
    for _ in range(6):
        await site.store(bytes(PART))
    busy, most = 0, 0

    class Counting(FaultyStore):
        async def put(self, key: str, piece: object) -> None:
            nonlocal busy, most
            if key.endswith("/body"):
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.001)
                busy -= 1
            await super().put(key, piece)  # type: ignore[arg-type]

    site.stores["east"] = Counting()
    copier = Copier(site.stores, part_size=2 * PART, parallel=2, rate=Rate(), memory=150_000)
    targets = [Target(name, Role.BACKUP, store) for name, store in site.stores.items()]
    repairer = Repairer(site.replicas, copier, targets, settings=RepairSettings(parallel=6))
    assert (await repairer.repair("east")).filled == 6
    assert most == 2
