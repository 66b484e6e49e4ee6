"""A catalog that is behind its targets: what opens is taken over, and nothing newer is written over."""

import os
from dataclasses import replace

from sqlalchemy import update

from envelope.envelope import Wrap, decode, encode
from envelope.wrap import wrap
from gateway.catalog import tables
from gateway.keys.data_keys import wrapped_key
from gateway.model import Version, envelope_key
from gateway.pacing.rate import Rate
from gateway.repair.findings import Kind, Tally
from gateway.repair.opening import Opening
from gateway.repair.scrub import Scrub
from gateway.rotation.pushing import Pushed, Pushing
from tests.doubles.blobs import overwrite, whole
from tests.doubles.scrub_site import Row
from tests.unit.gateway.conftest import PART, Bench


async def stored(bench: Bench, size: int) -> Version:
    """Store something on every target."""
    receipt = await bench.store(os.urandom(size))
    await bench.background.settle()
    version = await bench.catalog.replicas.version(receipt.version.id)
    assert version is not None
    return version


async def ahead(bench: Bench, version: Version) -> tuple[str, bytes]:
    """Rotate the KEK, and rewrap on one target alone; return the KEK and what is there."""
    kek = bench.keys.current(version.tenant)
    await bench.keys.rotate_kek(version.tenant, kek, reason="test")
    key = envelope_key(version.tenant, version.blob)
    envelope = decode(await whole(bench.east, key))
    (wrapped,) = await bench.keys.rewrap(
        version.tenant, [wrapped_key(envelope)], reason="test", request_id=""
    )
    assert isinstance(wrapped, bytes)
    new = bench.keys.current(version.tenant)
    newer = Wrap(new, wrapped, envelope.newest.created + 1)
    sealed = encode(replace(envelope, wraps=(newer,)))
    await overwrite(bench.east, key, sealed)
    return new, sealed


async def scrub(bench: Bench) -> Tally:
    """Verify one target."""
    made = Scrub(
        bench.catalog.replicas,
        bench.catalog.wraps,
        bench.targets,
        Opening(bench.keys),
        rate=Rate(),
    )
    return await made.all("east", Row())


async def test_newer_wraps_that_open_are_taken_over(bench: Bench) -> None:
    for size in (10, PART):
        version = await stored(bench, size)
        kek, sealed = await ahead(bench, version)
        bench.keys.forget(version.tenant, version.kek)  # what the catalog has opens no more
        assert (await scrub(bench)).ahead == 1
        now = await bench.catalog.replicas.version(version.id)
        assert now is not None
        assert (now.kek, now.inline) == (kek, version.inline)
        assert now.envelope == encode(replace(decode(sealed), body=None))
        assert len(await bench.read()) == size
        assert (await scrub(bench)).ahead == 0


async def test_newer_wraps_under_a_kek_that_is_closed_come_under_the_current_one(
    bench: Bench,
) -> None:
    version = await stored(bench, PART)
    kek, _ = await ahead(bench, version)
    await bench.keys.rotate_kek(version.tenant, kek, reason="test")
    bench.keys.forget(version.tenant, version.kek)
    await bench.catalog.wraps.retiring(version.tenant, kek)  # somebody looked whether it may go
    await scrub(bench)
    now = await bench.catalog.replicas.version(version.id)
    assert now is not None
    assert now.kek == bench.keys.current(version.tenant)
    assert len(await bench.read()) == PART
    uses = {use.kek: use for use in await bench.catalog.wraps.uses(version.tenant)}
    assert uses[kek].stale == {"east": 1}


async def test_newer_wraps_that_do_not_open_are_damage(bench: Bench) -> None:
    version = await stored(bench, PART)
    key = envelope_key(version.tenant, version.blob)
    envelope = decode(await whole(bench.east, key))
    wrapped = wrap(os.urandom(32), "k9", os.urandom(32), b"elsewhere")
    forged = Wrap("k9", wrapped, envelope.newest.created + 1)
    await overwrite(bench.east, key, encode(replace(envelope, wraps=(forged,))))
    assert (await scrub(bench)).found == {Kind.UNOPENED: 1}
    assert await bench.catalog.replicas.version(version.id) == version


async def test_an_older_wrap_that_claims_to_be_newer_is_stale(bench: Bench) -> None:
    version = await stored(bench, PART)
    key = envelope_key(version.tenant, version.blob)
    older = decode(await whole(bench.east, key))
    kek, _ = await ahead(bench, version)
    await scrub(bench)
    wrap_ = replace(older.newest, created=older.newest.created + 10**12)
    await overwrite(bench.east, key, encode(replace(older, wraps=(wrap_,))))
    tally = await scrub(bench)
    assert (tally.ahead, tally.stale, tally.found) == (0, 1, {})
    now = await bench.catalog.replicas.version(version.id)
    assert now is not None
    assert now.kek == kek
    assert (await bench.catalog.wraps.uses(version.tenant))[0].stale["east"] == 1


async def test_without_keys_nothing_is_taken_over(bench: Bench) -> None:
    version = await stored(bench, PART)
    await ahead(bench, version)
    bench.keys.down = True
    tally = await scrub(bench)
    assert (tally.ahead, tally.locked, tally.found) == (1, 1, {})
    assert await bench.catalog.replicas.version(version.id) == version


async def test_a_newer_copy_is_not_written_over_once_a_dump_was_loaded(bench: Bench) -> None:
    version = await stored(bench, PART)
    await bench.catalog.wraps.mark_stale(version.id, "east", "k0")
    await bench.catalog._database.write(
        lambda c: c.execute(update(tables.stale).values(unsure=True)) and None
    )
    _, sealed = await ahead(bench, version)
    pushing = Pushing(
        bench.catalog, bench.catalog.wraps, bench.catalog.replicas, bench.targets, rate=Rate()
    )
    tally = Pushed()
    await pushing.push("east", tally)
    assert (tally.pushed, tally.failed) == (0, 1)
    assert await whole(bench.east, envelope_key(version.tenant, version.blob)) == sealed
    await scrub(bench)
    await bench.catalog._database.write(
        lambda c: c.execute(update(tables.stale).values(due=tables.EPOCH)) and None
    )
    await pushing.push("east", tally)
    assert (tally.pushed, tally.failed) == (1, 1)
    assert await whole(bench.east, envelope_key(version.tenant, version.blob)) == sealed
