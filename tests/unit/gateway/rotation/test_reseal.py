"""A reseal: another key and other bytes for the same content, or everything as it was."""

import hashlib
import os
from dataclasses import replace

import pytest

from gateway.attachments.opened import envelope_of
from gateway.attachments.uploads import Draft
from gateway.errors import CatalogUnavailable, StoreDamaged, StoreUnavailable, Unreadable
from gateway.flow.digests import INTERNAL
from gateway.model import (
    Found,
    Precondition,
    ReplicaState,
    body_key,
    envelope_key,
    moment,
    now,
)
from gateway.pacing.rate import Rate
from gateway.rotation.reseal import Outcome
from gateway.targets.quorum import QuorumLost
from keyservice.wire import Suspended
from tests.doubles.blobs import overwrite, whole
from tests.doubles.blobs import piece as blob_piece
from tests.doubles.resealing import LATER, blobs, content_of, reseal, resealer
from tests.unit.gateway.conftest import PART, Bench, pieces

STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING


async def untouched(bench: Bench, found: Found) -> bool:
    """Tell whether everything is as it was."""
    same = (await bench.catalog.find(bench.tenant, found.attachment.reference)) == found
    return same and blobs(bench) == {found.version.blob}


@pytest.mark.parametrize("size", [0, 1000, PART, 3 * PART + 17])
async def test_the_same_content_under_another_key(bench: Bench, size: int) -> None:
    content = os.urandom(size)
    draft = Draft(
        bench.tenant,
        "report",
        name="report.pdf",
        content_type="application/pdf",
        user={"team": "blue"},
        digests={"sha-256": hashlib.sha256(content).digest()},
        wanted=frozenset({INTERNAL}),
    )
    await bench.uploads.store(draft, pieces(content))
    old = await bench.catalog.find(bench.tenant, "report")
    before = await bench.downloads.open(old, request_id="")

    assert await reseal(bench, old.version) is Outcome.RESEALED

    new = await bench.catalog.find(bench.tenant, "report")
    after = await bench.downloads.open(new, request_id="")
    assert (new.attachment, new.version.id) == (old.attachment, old.version.id)
    assert (new.version.created, new.version.size) == (old.version.created, size)
    assert after.attributes == before.attributes
    assert after.dek != before.dek
    assert new.version.blob != old.version.blob
    salts = [{s.salt for s in envelope_of(each).core.segments} for each in (old, new)]
    assert not salts[0] & salts[1]
    assert await content_of(bench, new) == content
    assert new.replicas == {"primary": STORED, "east": STORED, "west": STORED}
    for store in bench.stores:  # whoever began with the old one goes on
        key = envelope_key(bench.tenant, old.version.blob)
        assert await whole(store, key) is not None
    assert await content_of(bench, old) == content
    assert "reseal" in bench.keys.reasons


async def test_it_says_when_it_was_sealed_again_and_does_it_once(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(PART))
    begun = now()
    assert await reseal(bench, receipt.version, before=begun) is Outcome.RESEALED
    first = await bench.catalog.find(bench.tenant, "report")
    core = envelope_of(first).core
    assert moment(core.created) == receipt.version.created
    assert begun <= moment(core.sealed) <= now()

    assert await reseal(bench, receipt.version, before=begun) is Outcome.RECENT
    assert await bench.catalog.find(bench.tenant, "report") == first
    assert await reseal(bench, receipt.version) is Outcome.RESEALED


async def test_a_clock_that_went_back_does_not_make_it_older(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = await bench.store(b"x" * PART)
    monkeypatch.setattr("gateway.rotation.reseal.time_ns", lambda: 1)
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    core = envelope_of(await bench.catalog.find(bench.tenant, "report")).core
    assert core.sealed == core.created + 1


async def test_what_is_in_the_trash_stays_there(bench: Bench) -> None:
    content = os.urandom(PART)
    receipt = await bench.store(content)
    gone = await bench.catalog.trash(bench.tenant, "report", Precondition())

    assert await reseal(bench, receipt.version) is Outcome.RESEALED

    (trashed,) = await bench.catalog.bin.trashed(bench.tenant)
    assert trashed.attachment == gone
    await bench.catalog.bin.undelete(bench.tenant, gone.id)
    assert await bench.read() == content


async def test_a_replaced_version_stays_replaced(bench: Bench) -> None:
    first = await bench.store(b"one" * PART)
    second = await bench.store(b"two" * PART)
    assert await reseal(bench, first.version) is Outcome.RESEALED
    assert (await bench.catalog.find(bench.tenant, "report")).version == second.version
    old = await bench.catalog.find(bench.tenant, "report", first.version.id)
    assert await content_of(bench, old) == b"one" * PART


async def test_a_damaged_source_is_read_around(bench: Bench) -> None:
    content = os.urandom(3 * PART)
    receipt = await bench.store(content)
    key = body_key(bench.tenant, receipt.version.blob)
    await overwrite(bench.primary, key, os.urandom(receipt.version.body_size))
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    assert await bench.read() == content


async def test_what_is_damaged_everywhere_is_left_as_it_is(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(3 * PART + 17))
    found = await bench.catalog.find(bench.tenant, "report")
    key = body_key(bench.tenant, receipt.version.blob)
    for store in bench.stores:
        body = bytearray(await whole(store, key))
        body[-1] ^= 1  # all but the last byte is authentic
        await overwrite(store, key, bytes(body))
    with pytest.raises(Unreadable):
        await reseal(bench, receipt.version)
    assert await untouched(bench, found)


async def test_without_its_quorum_nothing_changes(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(2 * PART))
    found = await bench.catalog.find(bench.tenant, "report")
    bench.degraded = True  # which is for those who cannot wait
    for store in (bench.east, bench.west):
        store.fail = StoreUnavailable("down")
    with pytest.raises(QuorumLost):
        await reseal(bench, receipt.version)
    assert await untouched(bench, found)


async def test_a_target_that_is_down_is_left_to_repair(bench: Bench) -> None:
    content = os.urandom(2 * PART)
    receipt = await bench.store(content)
    bench.west.fail = StoreUnavailable("down")
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    found = await bench.catalog.find(bench.tenant, "report")
    assert found.replicas == {"primary": STORED, "east": STORED, "west": MISSING}
    (gap,) = await bench.catalog.replicas.claim(["west"], lease=LATER, limit=9, newest=True)
    assert gap.version == found.version


@pytest.mark.parametrize("size", [100, 2 * PART])
async def test_what_does_not_open_again_is_not_switched_to(
    bench: Bench, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = await bench.store(os.urandom(size))
    found = await bench.catalog.find(bench.tenant, "report")
    put = bench.primary.put

    async def flawed(key: str, piece: object) -> None:
        await put(key, piece)  # type: ignore[arg-type]
        if key.endswith("/envelope"):
            which = envelope_key if size == 100 else body_key
            name = which(bench.tenant, key.split("/")[2])
            stored = bytearray(await whole(bench.primary, name))
            stored[-1] ^= 1
            await bench.primary.delete(name)
            await put(name, blob_piece(bytes(stored)))

    monkeypatch.setattr(bench.primary, "put", flawed)
    with pytest.raises(StoreDamaged):
        await reseal(bench, receipt.version)
    assert await untouched(bench, found)


async def test_a_suspended_tenant_stops_it(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(PART))
    found = await bench.catalog.find(bench.tenant, "report")
    bench.keys.states[bench.tenant] = "suspended"
    with pytest.raises(Suspended):
        await reseal(bench, receipt.version)
    assert await untouched(bench, found)


async def test_a_switch_whose_answer_was_lost_is_asked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(PART)
    receipt = await bench.store(content)
    switch, asked = bench.catalog.wraps.switch, 0

    async def lossy(*words: object) -> bool:
        nonlocal asked
        asked += 1
        done = await switch(*words)  # type: ignore[arg-type]
        if asked == 1:
            raise CatalogUnavailable("connection lost")
        return done

    monkeypatch.setattr(bench.catalog.wraps, "switch", lossy)
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    assert await bench.read() == content


async def test_an_unknown_outcome_removes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(PART)
    receipt = await bench.store(content)
    switch = bench.catalog.wraps.switch

    async def lost(*words: object) -> bool:
        await switch(*words)  # type: ignore[arg-type]
        raise CatalogUnavailable("connection lost")

    monkeypatch.setattr(bench.catalog.wraps, "switch", lost)
    monkeypatch.setattr("gateway.rotation.reseal.ASKED", 1)
    with pytest.raises(CatalogUnavailable):
        await reseal(bench, receipt.version)
    assert await bench.read() == content
    assert len(blobs(bench)) == 2


async def test_the_limits_of_today_are_not_those_of_then(bench: Bench) -> None:
    content = os.urandom(PART)
    receipt = await bench.store(content)
    bench.max_size = 10
    bench.inline = 2 * PART  # and what had a body of its own may travel in the envelope
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    found = await bench.catalog.find(bench.tenant, "report")
    assert found.version.body_size == 0
    assert found.version.inline is not None
    assert await bench.read() == content
    bench.inline = 0
    assert await reseal(bench, replace(receipt.version)) is Outcome.RESEALED
    assert (await bench.catalog.find(bench.tenant, "report")).version.inline is None
    assert await bench.read() == content


async def test_each_byte_is_read_twice_at_the_rate(bench: Bench) -> None:
    class Counted(Rate):
        taken = 0

        async def take(self, size: int, requests: int = 0) -> None:
            self.taken += size
            await super().take(size, requests)

    receipt, counted = await bench.store(os.urandom(3 * PART)), Counted()
    made = resealer(bench, rate=counted)
    outcome = await made.version(bench.tenant, receipt.version.id, before=now() + LATER)
    assert outcome is Outcome.RESEALED
    size = receipt.version.body_size
    assert 2 * size * 0.99 < counted.taken < 2 * size * 1.01


async def test_memory_is_what_an_upload_has(bench: Bench) -> None:
    receipt = await bench.store(os.urandom(12 * PART))
    drawn, most, draw, put_back = 0, 0, bench.pool.draw, bench.pool.put_back

    async def counted(size: int, owner: str) -> bytearray:
        nonlocal drawn, most
        data = await draw(size, owner)
        drawn += 1
        most = max(most, drawn)
        return data

    def returned(data: bytearray, owner: str, *, tainted: bool) -> None:
        nonlocal drawn
        drawn -= 1
        put_back(data, owner, tainted=tainted)

    bench.pool.draw, bench.pool.put_back = counted, returned  # type: ignore[method-assign]
    assert await reseal(bench, receipt.version) is Outcome.RESEALED
    assert most <= bench.window
    assert drawn == 0
