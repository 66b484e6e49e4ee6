"""Reads survive what stores do, and never release a byte that is not authentic."""

import os
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreUnavailable, Unreadable
from gateway.model import body_key
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import PART, Bench

ANY = settings(max_examples=30, deadline=None)


@ANY
@given(flip=st.integers(0, 2 * PART))
async def test_a_flipped_byte_in_one_replica_is_served_from_another(
    bench: Bench, flip: int
) -> None:
    content = os.urandom(2 * PART)
    await bench.store(content)
    bench.primary.flip = flip

    assert await bench.read() == content


@ANY
@given(flip=st.integers(0, 2 * PART))
async def test_the_same_flip_everywhere_releases_only_what_precedes_it(
    bench: Bench, flip: int
) -> None:
    content = os.urandom(2 * PART)
    await bench.store(content)
    for store in bench.stores:
        store.flip = flip
    found = await bench.catalog.find(bench.tenant, "report")
    opened = await bench.downloads.open(found, request_id="")
    released = b""

    async def drain() -> None:
        nonlocal released
        async with aclosing(bench.downloads.read(opened, 0, len(content))) as stream:
            async for piece in stream:
                released += piece

    with pytest.raises(Unreadable):
        await drain()

    assert content.startswith(released)
    assert len(released) <= flip
    for store in bench.stores:
        store.flip = None


@pytest.mark.parametrize("limit", [0, 1, 55, 56, 16456, PART, 2 * PART])
async def test_a_store_that_breaks_off_is_followed_by_the_next_at_the_same_byte(
    bench: Bench, limit: int
) -> None:
    content = os.urandom(3 * PART)
    await bench.store(content)
    bench.primary.read_fault, bench.primary.read_limit = StoreUnavailable("cut"), limit

    assert await bench.read() == content
    # The next store gives only what is missing, from the chunk where the first one broke.
    assert bench.east.bytes_read <= len(content) - limit + 3 * 16400


async def test_a_missing_body_is_served_from_a_backup(bench: Bench) -> None:
    content = os.urandom(PART)
    receipt = await bench.store(content)
    await bench.primary.delete(body_key(bench.tenant, receipt.version.blob))

    assert await bench.read(start=7, stop=99) == content[7:99]


async def test_a_body_of_another_blob_does_not_open(bench: Bench) -> None:
    one = await bench.store(os.urandom(PART), "one")
    two = await bench.store(os.urandom(PART), "two")
    for store in bench.stores:
        place = body_key(bench.tenant, one.version.blob)
        store._objects[place] = store._objects[body_key(bench.tenant, two.version.blob)]

    with pytest.raises(Unreadable, match="tried: primary, east, west"):
        await bench.read("one")


async def test_a_range_reads_little_more_than_it_needs(bench: Bench) -> None:
    content = os.urandom(8 * PART)
    await bench.store(content)
    reading = bench.primary
    reading.bytes_read = 0

    assert await bench.read(start=PART + 5, stop=PART + 70_005) == content[PART + 5 : PART + 70_005]

    assert reading.bytes_read <= 70_000 + 2 * 16400


async def test_a_small_body_is_read_without_any_store(bench: Bench) -> None:
    await bench.store(b"tiny")
    for store in bench.stores:
        store._objects.clear()

    assert await bench.read() == b"tiny"
    assert await bench.read(start=1, stop=3) == b"in"


async def test_leaving_early_stops_the_store(bench: Bench) -> None:
    await bench.store(os.urandom(16 * PART))
    found = await bench.catalog.find(bench.tenant, "report")
    opened = await bench.downloads.open(found, request_id="")

    async with aclosing(bench.downloads.read(opened, 0, opened.size)) as stream:
        async for _ in stream:
            break

    assert isinstance(bench.primary, FaultyStore)
    assert bench.primary.bytes_read <= 2 * PART
