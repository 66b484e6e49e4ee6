"""The purger removes every object of what is due, and forgets nothing that a target may still hold."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from gateway.duties.purger import Purger
from gateway.errors import StoreDenied, StoreError
from gateway.model import Precondition, body_key, envelope_key, new_id, now
from gateway.ports import KekUse
from tests.contracts.catalog.samples import FakeClock
from tests.doubles.blobs import piece
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench


class LockedStore(FaultyStore):
    """Refuses to delete while it is locked, as an object under a retention does."""

    lock: StoreError | None = None

    async def delete(self, key: str) -> None:
        if self.lock is not None:
            raise self.lock
        await super().delete(key)


async def deleted(bench: Bench, *sizes: int) -> str:
    """Store an attachment of so many versions, delete it, and return its id in the trash."""
    for size in sizes:
        receipt = await bench.store(os.urandom(size))
    await bench.background.settle()
    await bench.catalog.trash(bench.tenant, receipt.attachment.reference, Precondition())
    return receipt.attachment.id


def purger(bench: Bench, batch: int = 100) -> Purger:
    return Purger(bench.catalog.bin, bench.catalog.wraps, bench.targets, batch=batch)


async def test_nothing_goes_before_its_time(bench: Bench) -> None:
    await deleted(bench, PART)
    before = [list(store.keys) for store in bench.stores]

    assert (await purger(bench).run()).due == 0

    assert [list(store.keys) for store in bench.stores] == before


async def test_everything_of_what_is_due_goes_everywhere(bench: Bench) -> None:
    kept = await bench.store(os.urandom(PART), reference="kept")
    trashed = await deleted(bench, 10, PART, 3 * PART)
    await bench.catalog.bin.doom_now(bench.tenant, trashed)

    told: list[dict[str, int]] = []

    async def tell(progress: Mapping[str, int]) -> None:
        told.append(dict(progress))

    purged = await purger(bench).run(tell)

    assert (purged.gone, purged.waiting) == (3, 0)
    assert [progress["gone"] for progress in told] == [0, 1, 2, 3]
    for store in bench.stores:
        assert all(kept.version.blob in key for key in store.keys)
    assert await bench.catalog.bin.doomed(10) == []
    assert (await purger(bench).run()).gone == 0


async def test_what_a_late_repair_wrote_on_a_target_without_a_row_goes_too(bench: Bench) -> None:
    trashed = await deleted(bench, PART)
    (doomed,) = bench.primary.keys[:1]
    blob = doomed.split("/")[2]
    await bench.catalog.bin.doom_now(bench.tenant, trashed)
    extra = FaultyStore()
    key = body_key(bench.tenant, blob)
    extra._objects[key] = bench.primary._objects[key]
    await extra.begin(body_key(bench.tenant, blob))
    bench.west = extra

    await purger(bench).run()

    assert extra.keys == []
    assert extra.open_uploads == 0


async def test_what_is_locked_waits_until_the_lock_ends(bench: Bench) -> None:
    bench.east = LockedStore()
    trashed = await deleted(bench, PART)
    await bench.catalog.bin.doom_now(bench.tenant, trashed)
    bench.east.lock = StoreDenied("locked")

    purged = await purger(bench).run()

    assert (purged.gone, purged.waiting) == (0, 1)
    assert bench.primary.keys == bench.west.keys == []
    assert bench.east.keys
    bench.east.lock = None
    assert (await purger(bench).run()).gone == 1
    assert bench.east.keys == []


async def test_a_target_that_left_the_settings_is_waited_for(bench: Bench) -> None:
    trashed = await deleted(bench, PART)
    await bench.catalog.bin.doom_now(bench.tenant, trashed)
    without = [target for target in bench.targets if target.name != "west"]

    purged = await Purger(bench.catalog.bin, bench.catalog.wraps, without).run()

    assert (purged.gone, purged.waiting) == (0, 1)
    assert (await purger(bench).run()).gone == 1


async def test_a_run_goes_no_further_than_its_batch(bench: Bench) -> None:
    for _ in range(5):
        await bench.store(os.urandom(10), reference=new_id())
    listed = await bench.catalog.list(bench.tenant, "", None, 10)
    for found in listed:
        await bench.catalog.trash(bench.tenant, found.attachment.reference, Precondition())
    month = timedelta(days=31)
    await bench.catalog.bin.tick(timedelta(), "test")
    bench.catalog.bin._clock = FakeClock(now() + month)
    await bench.catalog.bin.tick(month, "test")

    assert (await purger(bench, batch=3).run()).gone == 3
    assert (await purger(bench, batch=3).run()).gone == 2


async def test_what_a_reseal_wrote_in_vain_goes_everywhere(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(PART))
    await bench.background.settle()
    version = receipt.version
    vain = replace(version, blob=new_id())
    for store in bench.stores:
        for key in (body_key, envelope_key):
            await store.put(key(bench.tenant, vain.blob), piece(b"x"))
    assert await bench.catalog.wraps.intend(version, vain.blob, version.kek)
    assert (await purger(bench).run()).leftovers == 0
    bench.catalog.wraps._clock = FakeClock(now() + timedelta(days=2))
    bench.west = LockedStore()
    bench.west.lock = StoreDenied("locked")

    purged = await purger(bench).run()

    assert (purged.gone, purged.waiting, purged.leftovers) == (0, 1, 0)
    assert all(version.blob in key for key in (*bench.primary.keys, *bench.east.keys))
    bench.west.lock = None
    assert (await purger(bench).run()).leftovers == 1
    assert await bench.catalog.wraps.uses(bench.tenant) == [KekUse(version.kek, versions=1)]


async def test_nothing_beside_a_version_goes_while_no_target_holds_what_it_has(
    bench: Bench,
) -> None:
    """A catalog that was rolled back takes what a reseal switched to for what one wrote in vain."""
    version = (await bench.store(os.urandom(PART))).version
    await bench.background.settle()
    last = new_id()
    assert await bench.catalog.wraps.intend(version, last, version.kek)
    objects = dict[str, bytes]()
    for store in bench.stores:
        for name in (body_key, envelope_key):
            old, new = (name(bench.tenant, blob) for blob in (version.blob, last))
            objects[old] = b"".join([bytes(each) async for each in store.read(old)])
            await store.put(new, piece(objects[old]))
            await store.delete(old)  # it was over, and its time was too
    bench.catalog.wraps._clock = FakeClock(now() + timedelta(days=2))
    short = body_key(bench.tenant, version.blob)
    await bench.east.put(envelope_key(bench.tenant, version.blob), piece(b"x"))
    await bench.east.put(short, piece(objects[short][1:]))

    purged = await purger(bench).run()

    assert (purged.waiting, purged.leftovers) == (1, 0)
    for store in bench.stores:
        assert {body_key(bench.tenant, last), envelope_key(bench.tenant, last)} <= {*store.keys}
    await bench.east.delete(short)
    await bench.east.put(short, piece(objects[short]))
    assert (await purger(bench).run()).leftovers == 1


async def test_leftovers_go_with_their_version(bench: Bench) -> None:
    trashed = await deleted(bench, PART)
    (doomed,) = await bench.catalog.bin.trashed(bench.tenant)
    version, written = doomed.version, list[str]()
    for store in bench.stores:
        await store.put(body_key(bench.tenant, blob := new_id()), piece(b"x"))
        assert await bench.catalog.wraps.intend(version, blob, version.kek)
        written.append(blob)
    await bench.catalog.bin.doom_now(bench.tenant, trashed)

    purged = await purger(bench).run()

    assert (purged.gone, purged.waiting, purged.leftovers) == (0, 1, 0)  # they may be written still
    for blob in written:
        assert await bench.catalog.wraps.abandon(blob)
    purged = await purger(bench).run()
    assert (purged.gone, purged.waiting, purged.leftovers) == (1, 0, 3)
    assert [store.keys for store in bench.stores] == [[], [], []]
