"""The inventory over stores in memory: what is missing, what is nobody's, and how much is remembered."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.model import SYSTEM, Precondition, Upload, body_key, envelope_key, new_id, now
from gateway.repair.findings import Kind, TargetAway
from gateway.repair.seen import Seen
from tests.doubles.blobs import overwrite, piece
from tests.doubles.scrub_site import Row, Site, scrub_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with scrub_site(tmp_path) as made:
        yield made


@pytest.mark.parametrize("room", [2, 1000])
async def test_what_is_missing_or_of_another_size_is_found_without_reading(
    site: Site, room: int
) -> None:
    blobs = [await site.store() for _ in range(12)]
    tiny = [await site.store(b"tiny", inline=True) for _ in range(3)]
    await site.east.delete(blobs[1].body_key)
    await site.east.delete(blobs[3].envelope_key)
    await site.east.delete(tiny[1].envelope_key)
    await overwrite(site.east, blobs[5].body_key, blobs[5].body[:-1])
    await overwrite(site.east, blobs[7].body_key, blobs[7].body + b"x")
    await overwrite(site.east, blobs[9].envelope_key, b"")
    tally = await site.inventory(room).take("east")
    found = {(each.version, each.kind, each.reason) for each in tally.troubles}
    assert found == {
        (blobs[1].version.id, Kind.MISSING, "absent"),
        (blobs[3].version.id, Kind.MISSING, "absent"),
        (tiny[1].version.id, Kind.MISSING, "absent"),
        (blobs[5].version.id, Kind.DAMAGED, "short"),
        (blobs[7].version.id, Kind.DAMAGED, "long"),
        (blobs[9].version.id, Kind.DAMAGED, "damaged"),
    }
    assert (tally.found[Kind.MISSING], tally.found[Kind.DAMAGED]) == (3, 3)
    assert site.east.bytes_read == 0
    assert tally.listed == 12 * 2 + 3 - 3
    await site.repairer.repair("east")
    assert not (await site.inventory(room).take("east")).found
    assert (await site.scrub().all("east", Row())).verified == 15


async def test_what_nobody_owns_is_told_and_left_alone(site: Site) -> None:
    blob = await site.store()
    tenant, whole, body, envelope = site.tenant, new_id(), new_id(), new_id()
    keys = [
        body_key(tenant, whole),
        envelope_key(tenant, whole),
        body_key(tenant, body),
        envelope_key(new_id(), envelope),
    ]
    running = Upload(new_id(), tenant, new_id(), new_id(), now(), now())
    await site.catalog.begin(running, "running")
    others = [
        body_key(tenant, running.blob),
        envelope_key(SYSTEM, new_id()),
        f"t/{tenant}/{whole}/strange",
    ]
    for key in keys + others:
        await site.east.put(key, piece(b"x"))
    tally = await site.inventory().take("east")
    assert {(each.blob, each.reason) for each in tally.troubles} == {
        (whole, "whole"),
        (body, "body"),
        (envelope, "envelope"),
    }
    assert dict(tally.found) == {Kind.ORPHANED: 3}
    assert tally.strange == 1
    assert set(site.east.keys) == {*keys, *others, blob.body_key, blob.envelope_key}


async def test_what_a_listing_withholds_is_asked_for(site: Site) -> None:
    blobs = [await site.store() for _ in range(4)]
    site.east.withheld = frozenset({blobs[0].body_key, blobs[1].envelope_key, blobs[2].body_key})
    await site.east.delete(blobs[2].body_key)
    tally = await site.inventory().take("east")
    assert [each.version for each in tally.troubles] == [blobs[2].version.id]


async def test_what_is_being_purged_is_neither_missing_nor_an_orphan(site: Site) -> None:
    blob = await site.store()
    found = await site.catalog.by_version(site.tenant, blob.version.id)
    await site.catalog.trash(site.tenant, found.attachment.reference, Precondition())
    await site.catalog.bin.doom_now(site.tenant, blob.version.attachment)
    assert not (await site.inventory().take("east")).found
    await site.east.delete(blob.body_key)
    assert not (await site.inventory().take("east")).found


async def test_a_target_that_does_not_answer_misses_nothing(site: Site) -> None:
    blob = await site.store()
    site.east.silence = StoreUnavailable("down")
    with pytest.raises(TargetAway):
        await site.inventory().take("east")
    assert await site.states(blob.version) == {"primary": "stored", "east": "stored"}


async def test_what_was_seen_is_known_in_parts_that_fit(site: Site) -> None:
    del site
    things = [(new_id(), number) for number in range(5000)]
    parts, passes = [(0, 0)], 0
    found = set[tuple[str, int]]()
    while parts:
        passes += 1
        seen = Seen(700, *parts.pop())
        for thing in things:
            seen.add(thing)
            if seen.full:
                await seen.halve()
        mine = {thing for thing in things if seen.takes(thing)}
        assert len(mine) <= 700
        assert all(thing in seen for thing in mine)
        assert not any((new_id(), number) in seen for number in range(1000))
        assert not mine & found
        found |= mine
        parts += seen.left
    assert found == set(things)
    assert passes >= 8
