"""The reaper removes what broken uploads left, and nothing that could ever be read again."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from awscrt.checksums import crc64nvme

from gateway.duties.reaper import Reaper
from gateway.errors import StoreUnavailable
from gateway.model import Upload, body_key, envelope_key, new_id, now
from gateway.ports import Piece, Stat, Unfinished
from tests.doubles.silence import begin_silent
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench


def piece(data: bytes) -> Piece:
    return Piece(memoryview(data), crc64nvme(data))


def aged(store: FaultyStore, days: int) -> None:
    """Make everything in a store older."""
    for key, found in store._objects.items():
        store._objects[key] = replace(found, modified=found.modified - timedelta(days=days))
    for upload in store._uploads.values():
        upload.started -= timedelta(days=days)
        upload.touched -= timedelta(days=days)


async def broken_upload(bench: Bench, *, silent_for: timedelta, complete: bool = False) -> Upload:
    """Leave what a kill in the middle leaves: an intent, a body, an open multipart upload."""
    at = now() - silent_for
    upload = Upload(new_id(), bench.tenant, new_id(), new_id(), at, at)
    await begin_silent(bench.catalog, upload, "broken")
    await bench.primary.put(body_key(bench.tenant, upload.blob), piece(b"body"))
    if complete:
        await bench.west.put(envelope_key(bench.tenant, upload.blob), piece(b"envelope"))
    await bench.east.begin(body_key(bench.tenant, upload.blob))
    return upload


def reaper(bench: Bench) -> Reaper:
    return Reaper(bench.catalog, bench.targets)


async def test_an_upload_that_stopped_beating_is_removed_whole(bench: Bench) -> None:
    await broken_upload(bench, silent_for=timedelta(hours=1))

    reaped = await reaper(bench).run(sweep=False)

    assert reaped.uploads == 1
    assert bench.primary.keys == []
    assert bench.east.open_uploads == 0
    assert await bench.catalog.stale(timedelta(), 10) == []


async def test_a_complete_upload_is_kept_for_a_catalog_that_may_know_it(bench: Bench) -> None:
    """After a rollback or failover, an acknowledged upload looks like one that never committed."""
    await broken_upload(bench, silent_for=timedelta(days=29), complete=True)

    assert (await reaper(bench).run(sweep=True)).uploads == 0

    assert len(bench.primary.keys) == len(bench.west.keys) == 1


async def test_a_complete_upload_that_nobody_missed_is_removed_in_the_end(bench: Bench) -> None:
    await broken_upload(bench, silent_for=timedelta(days=31), complete=True)

    assert (await reaper(bench).run(sweep=False)).uploads == 1

    assert bench.primary.keys == bench.west.keys == []


async def test_parts_that_a_dead_backup_kept_of_a_committed_version_are_swept(
    bench: Bench,
) -> None:
    receipt = await bench.store(os.urandom(PART))
    await bench.east.begin(body_key(bench.tenant, receipt.version.blob))
    aged(bench.east, 2)

    assert (await reaper(bench).run(sweep=True)).parts == 1

    assert len(bench.east.keys) == 2


async def test_parts_are_not_swept_while_somebody_adds_to_them(bench: Bench) -> None:
    """A repair or a restore may copy one object for longer than a day, and has no upload's row."""
    receipt = await bench.store(os.urandom(PART))
    key = body_key(bench.tenant, receipt.version.blob)
    await bench.east.delete(key)
    copy = await bench.east.begin(key)
    await copy.part(1, piece(b"first"))
    aged(bench.east, 2)
    await copy.part(2, piece(b"second"))

    assert (await reaper(bench).run(sweep=True)).parts == 0

    await copy.complete()
    assert (await bench.east.stat(key)).size == len(b"firstsecond")


async def test_parts_that_go_while_a_sweep_looks_at_them_do_not_end_it(bench: Bench) -> None:
    gone = await bench.east.begin(body_key(bench.tenant, new_id()))
    await bench.east.begin(body_key(bench.tenant, new_id()))
    aged(bench.east, 2)
    touched = bench.east.touched

    async def late(upload: Unfinished) -> datetime:
        await gone.abort()
        return await touched(upload)

    bench.east.touched = late  # type: ignore[method-assign]

    assert (await reaper(bench).run(sweep=True)).parts == 1
    assert bench.east.open_uploads == 0


async def test_a_target_that_is_down_does_not_end_the_sweep_of_others(bench: Bench) -> None:
    await bench.west.put(body_key(bench.tenant, new_id()), piece(b"orphan"))
    aged(bench.west, 2)

    def down(prefix: str) -> AsyncIterator[Unfinished]:
        raise StoreUnavailable(prefix)

    bench.primary.unfinished = down  # type: ignore[method-assign]

    assert (await reaper(bench).run(sweep=True)).orphans == 1


async def test_a_running_upload_is_left_alone(bench: Bench) -> None:
    await broken_upload(bench, silent_for=timedelta(minutes=1))

    await reaper(bench).run(sweep=True)

    assert len(bench.primary.keys) == 1
    assert bench.east.open_uploads == 1


async def test_a_store_that_is_down_is_cleaned_by_a_later_run(bench: Bench) -> None:
    await broken_upload(bench, silent_for=timedelta(hours=1))
    delete = bench.primary.delete

    async def down(key: str) -> None:
        raise StoreUnavailable(key)

    bench.primary.delete = down  # type: ignore[method-assign]
    assert await reaper(bench).uploads() == (0, 1)
    assert (await reaper(bench).run(sweep=False)).uploads == 0
    bench.primary.delete = delete  # type: ignore[method-assign]

    assert (await reaper(bench).run(sweep=False)).uploads == 1
    assert bench.primary.keys == []


async def test_old_bodies_and_parts_that_nobody_knows_are_swept(bench: Bench) -> None:
    orphan = body_key(bench.tenant, new_id())
    await bench.primary.put(orphan, piece(b"orphan"))
    await bench.primary.begin(body_key(bench.tenant, new_id()))
    await bench.store(os.urandom(PART), "kept")
    aged(bench.primary, 2)

    reaped = await reaper(bench).run(sweep=True)

    assert (reaped.orphans, reaped.parts) == (1, 1)
    assert orphan not in bench.primary.keys
    assert len(bench.primary.keys) == 2


async def test_young_orphans_stay(bench: Bench) -> None:
    await bench.primary.put(body_key(bench.tenant, new_id()), piece(b"young"))

    assert (await reaper(bench).run(sweep=True)).orphans == 0


@pytest.mark.parametrize("name", ["t/readme", "t/x/y/body", "other/thing"])
async def test_what_is_not_ours_stays(bench: Bench, name: str) -> None:
    await bench.primary.put(name, piece(b"foreign"))
    aged(bench.primary, 999)

    await reaper(bench).run(sweep=True)

    assert bench.primary.keys == [name]


async def test_an_empty_catalog_costs_nothing_that_could_be_read(bench: Bench) -> None:
    """A catalog rolled back, or the wrong one: whatever has an envelope stays."""
    for number in range(3):
        blob = new_id()
        await bench.primary.put(body_key(bench.tenant, blob), piece(b"body %d" % number))
        await bench.primary.put(envelope_key(bench.tenant, blob), piece(b"envelope"))
    aged(bench.primary, 999)
    before = bench.primary.keys

    await reaper(bench).run(sweep=True)

    assert bench.primary.keys == before


async def test_a_listing_that_is_out_of_order_costs_nothing_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        blob = new_id()
        await bench.primary.put(body_key(bench.tenant, blob), piece(b"body"))
        await bench.primary.put(envelope_key(bench.tenant, blob), piece(b"envelope"))
    aged(bench.primary, 999)
    before = bench.primary.keys

    async def bodies_first(prefix: str) -> AsyncIterator[Stat]:
        for key in sorted(before, key=lambda key: key.endswith("envelope")):
            yield replace(await bench.primary.stat(key), key=f"{prefix}{key.removeprefix(prefix)}")

    monkeypatch.setattr(bench.primary, "list", bodies_first)
    assert (await reaper(bench).run(sweep=True)).orphans == 0

    assert bench.primary.keys == before
