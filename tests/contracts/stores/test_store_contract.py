"""What every store promises, on every adapter."""

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ObjectExists, ObjectMissing, StoreDamaged, StoreDenied, StoreError
from gateway.model import body_key, envelope_key, new_id, now
from gateway.ports import Piece, Stat, Store, Unfinished
from tests.contracts.stores.conftest import MIB, Subject
from tests.service.http.eventually import eventually

DATA = random.Random(1).randbytes(16 * MIB)
TENANT = new_id()

on_any_store = settings(max_examples=25, deadline=None)


def piece(data: bytes) -> Piece:
    return Piece(memoryview(data), crc64nvme(data))


def new_key() -> str:
    return body_key(TENANT, new_id())


async def content(store: Store, key: str, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(store.read(key, start, stop)) as pieces:
        return b"".join([each async for each in pieces])


async def listed(store: Store, prefix: str) -> list[Stat]:
    return [each async for each in store.list(prefix)]


async def begun(store: Store, prefix: str = "") -> list[Unfinished]:
    return [each async for each in store.unfinished(prefix)]


async def test_a_store_that_is_there_passes_its_check(store: Store) -> None:
    await store.check()


async def test_what_is_put_is_there(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(b"sealed"))
    assert await content(store, key) == b"sealed"
    found = await store.stat(key)
    assert (found.key, found.size) == (key, 6)
    assert found.modified.utcoffset() == timedelta(0)
    assert abs(now() - found.modified) < timedelta(minutes=1)


async def test_an_object_may_be_empty(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(b""))
    assert await content(store, key) == b""
    assert (await store.stat(key)).size == 0


async def test_the_callers_memory_may_be_used_again(store: Store) -> None:
    key = new_key()
    memory = bytearray(DATA[:MIB])
    await store.put(key, Piece(memoryview(memory), crc64nvme(bytes(memory))))
    memory[:] = bytes(MIB)
    assert await content(store, key) == DATA[:MIB]


async def test_a_taken_key_is_never_overwritten(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(b"first"))
    for other in (b"second", DATA[:10_000]):
        with pytest.raises(ObjectExists):
            await store.put(key, piece(other))
    assert await content(store, key) == b"first"


async def test_of_many_who_create_one_key_one_wins(store: Store) -> None:
    key = new_key()
    results = await asyncio.gather(
        *(store.put(key, piece(DATA[: 100 + each])) for each in range(8)), return_exceptions=True
    )
    winners = [each for each, result in enumerate(results) if result is None]
    assert len(winners) == 1
    assert all(isinstance(each, ObjectExists) for each in results if each is not None)
    assert await content(store, key) == DATA[: 100 + winners[0]]


async def test_a_missing_object_is_missing(store: Store) -> None:
    key = new_key()
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    with pytest.raises(ObjectMissing):
        await content(store, key)
    with pytest.raises(ObjectMissing):
        await content(store, key, 5, 10)


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(b"one"))
    await store.put(envelope_key(TENANT, key.split("/")[2]), piece(b"two"))
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    assert len(await listed(store, key.removesuffix("body"))) == 1
    await store.put(key, piece(b"three"))
    assert await content(store, key) == b"three"


@on_any_store
@given(size=st.integers(0, 2 * MIB), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
async def test_any_range_equals_the_slice(
    store: Store, size: int, cuts: tuple[float, float]
) -> None:
    key = new_key()
    await store.put(key, piece(DATA[:size]))
    start, stop = sorted(round(cut * size) for cut in cuts)
    assert await content(store, key, start, stop) == DATA[start:stop]
    assert await content(store, key, start) == DATA[start:size]


async def test_a_range_past_the_end_is_damage(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(DATA[:100]))
    assert await content(store, key, 100) == b""
    for start, stop in ((0, 101), (99, 200), (100, 101), (101, 102), (101, None)):
        with pytest.raises(StoreDamaged):
            await content(store, key, start, stop)


async def test_an_empty_range_asks_nothing(store: Store) -> None:
    assert await content(store, new_key(), 5, 5) == b""


async def test_a_range_that_ends_before_it_begins_is_refused(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(b"sealed"))
    for start, stop in ((3, 2), (-1, None)):
        with pytest.raises(StoreDenied):
            await content(store, key, start, stop)


async def test_pieces_are_small_and_never_empty(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(DATA[: 5 * MIB]))
    async with aclosing(store.read(key)) as pieces:
        sizes = [len(each) async for each in pieces]
    assert sum(sizes) == 5 * MIB
    assert all(0 < size <= MIB for size in sizes)


async def test_reads_that_are_left_early_cost_no_connection(store: Store) -> None:
    key = new_key()
    await store.put(key, piece(DATA[: 2 * MIB]))
    for _ in range(20):  # more than there are connections
        async with aclosing(store.read(key)) as pieces:
            assert await anext(pieces)
    assert await content(store, key) == DATA[: 2 * MIB]


async def test_many_read_and_write_at_once(store: Store) -> None:
    async def there_and_back(size: int) -> None:
        key = new_key()
        await store.put(key, piece(DATA[:size]))
        assert await content(store, key) == DATA[:size]

    async with asyncio.TaskGroup() as tasks:
        for each in range(24):
            tasks.create_task(there_and_back(each * 30_000))


async def test_nothing_is_visible_before_it_is_complete(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    await upload.part(1, piece(DATA[: subject.part]))
    await upload.part(2, piece(b"end"))
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    with pytest.raises(ObjectMissing):
        await content(store, key)
    assert await listed(store, f"t/{TENANT}") == []
    (unfinished,) = await begun(store, f"t/{TENANT}")
    assert unfinished.key == key
    await upload.complete()
    assert await content(store, key) == DATA[: subject.part] + b"end"
    assert [each.key for each in await listed(store, f"t/{TENANT}")] == [key]
    assert await begun(store) == []


@settings(on_any_store, max_examples=4)
@given(extras=st.lists(st.integers(0, 300_000), min_size=1, max_size=3), order=st.randoms())
async def test_any_split_into_parts_in_any_order(
    subject: Subject, extras: list[int], order: random.Random
) -> None:
    store, key = subject.store, new_key()
    sizes = [subject.part + extra for extra in extras[:-1]] + extras[-1:]
    ends = [sum(sizes[: each + 1]) for each in range(len(sizes))]
    parts = [DATA[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    numbers = list(range(1, len(parts) + 1))
    order.shuffle(numbers)
    upload = await store.begin(key)
    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(upload.part(number, piece(parts[number - 1])))
    await upload.complete()
    assert await content(store, key) == DATA[: ends[-1]]
    middle = ends[-1] // 2
    assert await content(store, key, middle) == DATA[middle : ends[-1]]


async def test_a_part_sent_again_replaces_the_earlier_one(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    await upload.part(1, piece(DATA[: subject.part + 7]))
    await upload.part(2, piece(b"draft"))
    await upload.part(1, piece(DATA[100 : subject.part + 100]))  # shorter
    await upload.part(2, piece(b"final"))
    await upload.complete()
    assert await content(store, key) == DATA[100 : subject.part + 100] + b"final"


async def test_parts_need_numbers_without_gaps(subject: Subject) -> None:
    upload = await subject.store.begin(new_key())
    with pytest.raises(StoreDenied):
        await upload.complete()
    await upload.part(2, piece(DATA[: subject.part]))
    with pytest.raises(StoreDenied):
        await upload.complete()
    await upload.abort()


async def test_completing_on_a_taken_key_leaves_it_alone(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    await upload.part(1, piece(DATA[: subject.part]))
    await store.put(key, piece(b"first"))
    with pytest.raises(ObjectExists):
        await upload.complete()
    await upload.abort()
    assert await content(store, key) == b"first"
    assert await begun(store) == []


async def test_an_aborted_upload_leaves_nothing(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    await upload.part(2, piece(DATA[: subject.part]))
    await upload.abort()
    await upload.abort()
    assert await begun(store) == []
    assert await listed(store, "") == []
    with pytest.raises(StoreError):
        await upload.part(1, piece(b"late"))
    with pytest.raises(StoreError):
        await upload.complete()
    assert await begun(store) == []
    with pytest.raises(ObjectMissing):
        await store.stat(key)


async def test_abort_after_complete_takes_nothing_back(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    await upload.part(1, piece(DATA[: subject.part]))
    await upload.complete()
    await upload.abort()
    assert (await store.stat(key)).size == subject.part


async def test_anybody_may_discard_what_was_left_unfinished(subject: Subject) -> None:
    store, key = subject.store, new_key()
    left = await store.begin(key)
    await left.part(1, piece(DATA[: subject.part]))
    other = await store.begin(key)
    found = await begun(store, key)
    assert len({each.id for each in found}) == 2
    for each in found:
        await store.discard(each)
        await store.discard(each)
    assert await begun(store) == []
    with pytest.raises(StoreError):
        await left.complete()
    await other.abort()
    with pytest.raises(ObjectMissing):
        await store.stat(key)


async def test_an_unfinished_upload_tells_when_it_was_written_last(subject: Subject) -> None:
    store, key = subject.store, new_key()
    upload = await store.begin(key)
    (unfinished,) = await begun(store, key)
    long_ago = replace(unfinished, started=unfinished.started - timedelta(days=2))
    for number in (1, 2):
        await upload.part(number, piece(DATA[: subject.part]))
    touched = await store.touched(long_ago)
    assert touched.utcoffset() == timedelta(0)
    assert touched > long_ago.started + timedelta(days=1)
    await upload.complete()
    with pytest.raises(ObjectMissing):
        await store.touched(unfinished)


async def test_unfinished_uploads_tell_when_they_began(store: Store) -> None:
    await store.begin(new_key())
    (unfinished,) = await begun(store)
    assert unfinished.started.utcoffset() == timedelta(0)
    assert abs(now() - unfinished.started) < timedelta(minutes=1)


async def test_unfinished_uploads_are_listed_by_prefix(store: Store) -> None:
    keys = [f"t/{tenant * 32}/{new_id()}/body" for tenant in "abb"]
    for key in keys:
        await store.begin(key)
    assert {each.key for each in await begun(store)} == set(keys)
    assert {each.key for each in await begun(store, f"t/{'b' * 32}/")} == set(keys[1:])
    assert await begun(store, "t/c") == []


async def test_objects_are_listed_by_prefix_in_key_order(store: Store) -> None:
    keys = ["a/b", "a/b1/c", "a/b2", "a0", "b", "t/1/x/body", "t/1/x/envelope", "t/10/y/body"]
    for size, key in enumerate(random.Random(2).sample(keys, len(keys))):
        await store.put(key, piece(DATA[:size]))
    found = await listed(store, "")
    assert [each.key for each in found] == sorted(keys)
    for each in found:
        assert (await store.stat(each.key)).size == each.size
    for prefix in ("a", "a/", "a/b", "t/1", "t/1/", "t/1/x", "t/1/x/b", "z", "a0", "b/"):
        expected = sorted(key for key in keys if key.startswith(prefix))
        assert [each.key for each in await listed(store, prefix)] == expected


async def test_a_listing_goes_on_page_after_page(store: Store) -> None:
    keys = [f"t/{each:04d}/body" for each in range(1003)]
    for first in range(0, len(keys), 16):
        await asyncio.gather(*(store.put(key, piece(b"x")) for key in keys[first : first + 16]))
    assert [each.key for each in await listed(store, "t/")] == keys


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "A", "a b", "a\0", "a\n", "é", "a.b", "~",
     "a-b", "a%2fb", "a?b", "a\\b", "a" * 201],
)  # fmt: skip
async def test_a_key_that_is_not_plain_words_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreDenied):
        await store.put(key, piece(b"x"))
    with pytest.raises(StoreDenied):
        await store.begin(key)
    with pytest.raises(StoreDenied):
        await content(store, key)
    with pytest.raises(StoreDenied):
        await store.stat(key)
    with pytest.raises(StoreDenied):
        await store.delete(key)
    with pytest.raises(StoreDenied):
        await store.discard(Unfinished(key, new_id(), now()))


@pytest.mark.parametrize("prefix", ["/", "../", "a//", "A", ".", "a*"])
async def test_a_prefix_that_no_key_has_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(StoreDenied):
        await listed(store, prefix)
    with pytest.raises(StoreDenied):
        await begun(store, prefix)


async def test_a_cancelled_put_is_whole_or_absent(store: Store) -> None:
    for delay in (0, 0.0005, 0.001, 0.002, 0.004, 0.008):
        key = new_key()
        task = asyncio.create_task(store.put(key, piece(DATA[: 4 * MIB])))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.wait([task])
        try:
            found = await store.stat(key)
        except ObjectMissing:
            continue
        assert found.size == 4 * MIB

    async def nothing_begun() -> bool:
        return await begun(store) == []

    await eventually(nothing_begun)  # a server, or a thread, may still be at it
