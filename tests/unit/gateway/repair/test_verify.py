"""What passes as a replica, and that nothing else does."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.envelope import decode, encode
from gateway.errors import ObjectMissing, StoreDamaged, Unreadable
from gateway.model import Version
from gateway.repair.verify import BodyCheck, check_envelope, check_replica, stored_envelope
from gateway.stores.memory import MemoryStore
from tests.doubles.blobs import Blob, flipped, overwrite, place, rewrapped, seal

CONTENT = bytes(range(256)) * 160
BODY = seal(CONTENT, cuts=(0, 100, 30_000))
INLINE = seal(b"a small body", inline=True)
CORE = decode(BODY.version.envelope).core


@given(st.lists(st.integers(0, len(BODY.body)), max_size=8))
def test_a_body_passes_however_it_is_cut(cuts: list[int]) -> None:
    check = BodyCheck(CORE)
    edges = [0, *sorted(cuts), len(BODY.body)]
    for start, stop in itertools.pairwise(edges):
        check.update(memoryview(BODY.body)[start:stop])
    check.finish()


@given(st.integers(0, 8 * len(BODY.body) - 1), st.integers(1, 9000))
def test_any_flipped_bit_is_caught_and_stays_caught(bit: int, step: int) -> None:
    check, body = BodyCheck(CORE), flipped(BODY.body, bit)

    def all_of_it() -> None:
        for start in range(0, len(body), step):
            check.update(body[start : start + step])

    with pytest.raises(StoreDamaged) as caught:
        all_of_it()
    assert caught.value.reason == "flipped"
    with pytest.raises(StoreDamaged):
        check.update(b"more")
    with pytest.raises(StoreDamaged):
        check.finish()


@given(st.integers(0, len(BODY.body) - 1))
def test_a_short_body_is_caught(size: int) -> None:
    check = BodyCheck(CORE)
    check.update(BODY.body[:size])
    with pytest.raises(StoreDamaged) as caught:
        check.finish()
    assert caught.value.reason == "short"


def test_a_long_body_is_caught() -> None:
    check = BodyCheck(CORE)
    with pytest.raises(StoreDamaged) as caught:
        check.update(BODY.body + b"\0")
    assert caught.value.reason == "long"


@pytest.mark.parametrize("blob", [BODY, INLINE], ids=["body", "inline"])
async def test_a_whole_replica_passes(blob: Blob) -> None:
    store = MemoryStore()
    await place(store, blob)
    await check_replica(store, blob.version)


async def test_an_absent_replica_is_missing() -> None:
    with pytest.raises(ObjectMissing):
        await check_replica(MemoryStore(), BODY.version)


async def test_a_replica_without_its_body_is_missing() -> None:
    store = MemoryStore()
    await place(store, BODY)
    await store.delete(BODY.body_key)
    with pytest.raises(ObjectMissing):
        await check_replica(store, BODY.version)


@pytest.mark.parametrize("blob", [BODY, INLINE], ids=["body", "inline"])
async def test_every_flipped_bit_of_an_envelope_is_caught(blob: Blob) -> None:
    store = MemoryStore()
    for bit in range(8 * len(blob.sealed)):
        await overwrite(store, blob.envelope_key, flipped(blob.sealed, bit))
        with pytest.raises(StoreDamaged):
            await check_envelope(store, blob.version)


@pytest.mark.parametrize(
    ("tail", "reason"), [(b"x", "long"), (None, "short")], ids=["long", "short"]
)
async def test_a_body_of_another_length_is_caught(tail: bytes | None, reason: str) -> None:
    store = MemoryStore()
    await place(store, BODY)
    await overwrite(store, BODY.body_key, BODY.body + tail if tail else BODY.body[:-1])
    with pytest.raises(StoreDamaged) as caught:
        await check_replica(store, BODY.version)
    assert caught.value.reason == reason


async def test_an_older_version_played_back_is_told_from_a_stranger() -> None:
    store, mine = MemoryStore(), INLINE.version
    older = seal(b"older", inline=True, tenant=mine.tenant, attachment=mine.attachment)
    for other, reason in ((older, "replayed"), (BODY, "swapped")):
        await overwrite(store, INLINE.envelope_key, other.sealed)
        with pytest.raises(StoreDamaged) as caught:
            await check_envelope(store, mine)
        assert caught.value.reason == reason


async def test_an_envelope_that_cannot_be_one_is_damaged() -> None:
    store = MemoryStore()
    for data in (b"", b"junk", b"\0" * (5 << 20)):
        await overwrite(store, BODY.envelope_key, data)
        with pytest.raises(StoreDamaged) as caught:
            await check_envelope(store, BODY.version)
        assert caught.value.reason == "damaged"


async def test_a_rewrap_passes_before_and_after_it_reached_the_store() -> None:
    newer = rewrapped(INLINE)
    before, after = MemoryStore(), MemoryStore()
    await place(before, INLINE)
    await place(after, replace(INLINE, version=newer))
    for store in (before, after):
        for version in (INLINE.version, newer):
            await check_replica(store, version)


def test_what_belongs_into_a_store_holds_the_inline_body() -> None:
    assert decode(stored_envelope(INLINE.version)).body == INLINE.body
    assert stored_envelope(BODY.version) == BODY.version.envelope


@pytest.mark.parametrize(
    "version",
    [
        replace(INLINE.version, inline=flipped(INLINE.body, 99)),
        replace(INLINE.version, inline=INLINE.body + b"x"),
        replace(INLINE.version, envelope=b"junk"),
        replace(INLINE.version, id="0" * 32),
        replace(BODY.version, body_size=7),
        replace(BODY.version, envelope=encode(replace(decode(INLINE.sealed), body=None))),
    ],
    ids=["flipped", "long", "junk", "another version", "another size", "another envelope"],
)
def test_a_catalog_that_cannot_be_right_is_no_measure(version: Version) -> None:
    with pytest.raises(Unreadable):
        stored_envelope(version)
