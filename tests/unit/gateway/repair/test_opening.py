"""Replicas opened with keys, from one target's bytes: what passes, what does not, and what proves nothing."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from envelope.context import Purpose
from envelope.envelope import Wrap, decode, encode, open_attributes, seal_attributes
from envelope.wrap import wrap
from gateway.attachments.uploads import Draft
from gateway.errors import ObjectMissing, StoreDamaged, Unreadable
from gateway.flow.digests import INTERNAL
from gateway.keys.data_keys import unwrap
from gateway.model import Version, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.findings import Kind
from gateway.repair.opening import Locked, Opening
from gateway.repair.repairer import Repairer
from gateway.repair.scrub import Scrub
from tests.doubles.blobs import flipped, overwrite, whole
from tests.doubles.scrub_site import Site, scrub_site
from tests.unit.gateway.conftest import PART, Bench, pieces


async def stored(bench: Bench, content: bytes) -> Version:
    """Store content for which digests are recorded."""
    digests = {"sha-256": hashlib.sha256(content).digest()}
    draft = Draft(bench.tenant, "report", digests=digests)
    receipt = await bench.uploads.store(draft, pieces(content))
    await bench.background.settle()
    version = await bench.catalog.replicas.version(receipt.version.id)
    assert version is not None
    return version


async def check(bench: Bench, version: Version) -> None:
    await Opening(bench.keys).check(bench.east, version, Rate())


@pytest.mark.parametrize("size", [0, 10, 1024, PART, 3 * PART + 7])
async def test_what_is_whole_opens(bench: Bench, size: int) -> None:
    version = await stored(bench, os.urandom(size))
    reads = bench.keys.unwraps
    await check(bench, version)
    assert bench.keys.unwraps == reads + 1
    assert bench.keys.reasons[-1] == "scrub"


@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_a_wrap_that_opens_nothing_is_seen_with_keys_alone(bench: Bench, size: int) -> None:
    version = await stored(bench, os.urandom(size))
    key = envelope_key(version.tenant, version.blob)
    envelope = decode(await whole(bench.east, key))
    context = envelope.core.context.encode(Purpose.DEK)
    wrong = Wrap("k9", wrap(os.urandom(32), "k9", os.urandom(32), context), 99)
    await overwrite(bench.east, key, encode(replace(envelope, wraps=(wrong,))))
    with pytest.raises(StoreDamaged) as caught:
        await check(bench, version)
    assert caught.value.reason == "unopened"


async def test_a_wrap_that_opens_nothing_is_replaced_by_repair(bench: Bench) -> None:
    version = await stored(bench, os.urandom(PART))
    key = envelope_key(version.tenant, version.blob)
    good = await whole(bench.east, key)
    wrong = Wrap("k9", wrap(os.urandom(32), "k9", os.urandom(32), b"elsewhere"), 99)
    await overwrite(bench.east, key, encode(replace(decode(good), wraps=(wrong,))))
    rate = Rate()
    scrub = Scrub(
        bench.catalog.replicas, bench.catalog.wraps, bench.targets, Opening(bench.keys), rate=rate
    )

    tally = await scrub.sample("east", 1)

    assert tally.found == {Kind.UNOPENED: 1}
    stores = {target.name: target.store for target in bench.targets}
    copier = Copier(stores, part_size=PART, parallel=1, rate=rate)
    mended = await Repairer(bench.catalog.replicas, copier, bench.targets).repair("east")
    assert (mended.filled, mended.failed) == (1, 0)
    assert await whole(bench.east, key) == good
    assert (await scrub.sample("east", 1)).opened == 1


async def test_content_of_other_digests_does_not_pass(bench: Bench) -> None:
    version = await stored(bench, b"content" * 9000)
    key = envelope_key(version.tenant, version.blob)
    envelope = decode(version.envelope)
    dek = await unwrap(bench.keys, envelope, reason="test", request_id="")
    attributes = open_attributes(dek, envelope.core, envelope.attributes)
    lie = replace(attributes, digests={**attributes.digests, INTERNAL: b"x" * 32})
    forged = encode(replace(envelope, attributes=seal_attributes(dek, envelope.core, lie)))
    await overwrite(bench.east, key, forged)
    with pytest.raises(StoreDamaged) as caught:
        await check(bench, replace(version, envelope=forged))
    assert caught.value.reason == "unopened"


@pytest.mark.parametrize("what", ["flip", "cut", "longer", "gone"])
async def test_a_body_that_is_not_what_was_sealed_does_not_pass(bench: Bench, what: str) -> None:
    version = await stored(bench, os.urandom(PART))
    key = body_key(version.tenant, version.blob)
    body = await whole(bench.east, key)
    if what == "gone":
        await bench.east.delete(key)
        with pytest.raises(ObjectMissing):
            await check(bench, version)
        return
    await overwrite(
        bench.east,
        key,
        {"flip": flipped(body, 8 * PART - 5), "cut": body[:-9], "longer": body + b"x"}[what],
    )
    with pytest.raises(StoreDamaged) as caught:
        await check(bench, version)
    assert caught.value.reason == {"flip": "unopened", "cut": "short", "longer": "long"}[what]


async def test_without_its_key_nothing_is_proved(bench: Bench) -> None:
    version = await stored(bench, b"content")
    bench.keys.states[bench.tenant] = "suspended"
    with pytest.raises(Locked):
        await check(bench, version)
    bench.keys.down = True
    with pytest.raises(Locked):
        await check(bench, version)


async def test_what_the_catalog_garbled_is_not_the_target_s(bench: Bench) -> None:
    version = await stored(bench, b"content" * 9000)
    key = envelope_key(version.tenant, version.blob)
    envelope = decode(version.envelope)
    garbled = encode(replace(envelope, attributes=flipped(envelope.attributes, 300)))
    await overwrite(bench.east, key, garbled)
    with pytest.raises(Unreadable):
        await check(bench, replace(version, envelope=garbled))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with scrub_site(tmp_path) as made:
        yield made


async def test_a_sample_is_picked_from_what_is_stored(site: Site) -> None:
    await site.keys.create_tenant(site.tenant)
    for _ in range(30):
        await site.store()
    # Sealed under a key of no tenant: nothing opens, in the catalog either.
    tally = await site.scrub().sample("east", 5)
    assert (tally.found[Kind.UNMEASURED], tally.opened) == (5, 0)
    tally = await site.scrub().sample("east", 50)
    assert tally.found[Kind.UNMEASURED] == 30
    assert {each.version for each in tally.troubles} == {
        held.version.id for held in await site.catalog.replicas.held("east")
    }
    site.keys.down = True
    assert (await site.scrub().sample("east", 5)).locked == 5


async def test_a_run_opens_its_share_of_a_sample(site: Site) -> None:
    for _ in range(9):
        await site.store()
    tally = await site.share(sample=0.5)
    assert (tally.verified, tally.locked) == (9, 5)
