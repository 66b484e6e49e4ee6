"""Each fault that the wire knows is the one that it says, as an S3 store meets it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from awscrt.checksums import crc64nvme

from gateway.errors import StoreDamaged, StoreUnavailable
from gateway.ports import Piece
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings
from tests.faults.proxy.faulty_wire import Fault, FaultyWire, Kind
from tests.servers.versitygw import Versitygw

DATA = hashlib.shake_128(b"sealed").digest(300_000)
KEY = "t/a/b/body"


@pytest.fixture(scope="module")
def wire(s3: Versitygw) -> Iterator[FaultyWire]:
    """Run one wire to the shared server."""
    with FaultyWire(s3) as running:
        yield running


@pytest.fixture
async def store(wire: FaultyWire) -> AsyncIterator[S3Store]:
    """Give a store behind the wire, with one object, that tries nothing twice."""
    settings = S3Settings(
        "test",
        wire.server.new_bucket(),
        wire.endpoint,
        access_key=wire.access_key,
        secret_key=wire.secret_key,
        stall_timeout=60.0,  # the machine may be busy
    )
    store = S3Store(settings)
    await put(store, KEY)
    yield store
    await store.close()


@asynccontextmanager
async def for_fault(store: S3Store, kind: Kind) -> AsyncIterator[S3Store]:
    """Give the store, or one like it that does not wait long for what will never come."""
    if kind not in {Kind.STALLED, Kind.SILENT}:
        yield store
        return
    hasty = S3Store(replace(store._settings, stall_timeout=0.5))
    try:
        yield hasty
    finally:
        await hasty.close()


async def put(store: S3Store, key: str) -> None:
    await store.put(key, Piece(memoryview(DATA), crc64nvme(DATA)))


async def content(store: S3Store) -> tuple[bytes, Exception | None]:
    """Read, and return what came before it failed, if it did."""
    found = b""
    try:
        async with aclosing(store.read(KEY, 0, len(DATA))) as pieces:
            async for piece in pieces:
                found += piece
    except (StoreUnavailable, StoreDamaged) as error:
        return found, error
    return found, None


async def test_without_a_fault_everything_passes(store: S3Store) -> None:
    assert await content(store) == (DATA, None)
    assert [stat.key async for stat in store.list("t/")] == [KEY]
    await store.delete(KEY)
    assert [stat.key async for stat in store.list("t/")] == []


@pytest.mark.parametrize(
    ("kind", "at"), [(Kind.CUT, 0.0), (Kind.CUT, 0.5), (Kind.CUT, 1.0), (Kind.STALLED, 0.5)]
)
async def test_a_body_that_breaks_off(
    wire: FaultyWire, store: S3Store, kind: Kind, at: float
) -> None:
    async with for_fault(store, kind) as asked:
        with wire.broken(Fault(kind, at=at)):
            found, error = await content(asked)
    assert isinstance(error, StoreUnavailable)
    assert DATA.startswith(found)
    assert len(found) <= at * len(DATA)
    assert await content(store) == (DATA, None)


async def test_a_body_that_is_shorter_than_was_asked(wire: FaultyWire, store: S3Store) -> None:
    with wire.broken(Fault(Kind.SHORT)):
        found, error = await content(store)
    assert (found, type(error)) == (b"", StoreDamaged)


async def test_a_body_with_another_bit(wire: FaultyWire, store: S3Store) -> None:
    with wire.broken(Fault(Kind.FLIPPED, at=0.25)):
        found, error = await content(store)
    assert error is None
    assert [n for n in range(len(DATA)) if found[n] != DATA[n]] == [len(DATA) // 4]


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.DROPPED, Kind.SILENT])
async def test_a_request_that_the_server_never_hears_of(
    wire: FaultyWire, store: S3Store, kind: Kind
) -> None:
    fault = Fault(kind, method="PUT")
    async with for_fault(store, kind) as asked:
        with wire.broken(fault), pytest.raises(StoreUnavailable):
            await put(asked, "t/a/c/body")
    assert fault.hits
    assert [stat.key async for stat in store.list("t/")] == [KEY]


async def test_an_answer_that_is_lost(wire: FaultyWire, store: S3Store) -> None:
    fault = Fault(Kind.LOST, method="PUT")
    with wire.broken(fault), pytest.raises(StoreUnavailable):
        await put(store, "t/a/c/body")
    assert (await store.stat("t/a/c/body")).size == len(DATA)


async def test_requests_are_late_and_chosen_by_share_method_and_name(
    wire: FaultyWire, store: S3Store
) -> None:
    late = Fault(Kind.LATE, method="GET", ending="/body", seconds=0.3)
    with wire.broken(late, Fault(Kind.REFUSED)):
        began = asyncio.get_running_loop().time()
        assert await content(store) == (DATA, None)
        assert asyncio.get_running_loop().time() - began >= 0.3
        with pytest.raises(StoreUnavailable):
            await store.stat(KEY)
    some = Fault(Kind.REFUSED, share=0.3)
    with wire.broken(some):
        errors = [(await content(store))[1] for _ in range(60)]
    assert len(some.hits) == sum(error is not None for error in errors)
    assert 5 < len(some.hits) < 35


async def test_what_is_hit_in_rows_passes_after_as_many_and_ever_after(
    wire: FaultyWire, store: S3Store
) -> None:
    await put(store, "t/a/c/body")
    rows = Fault(Kind.REFUSED, rows=(2, 1))
    with wire.broken(rows):
        first = [(await content(store))[1] is not None for _ in range(5)]
        second = []
        for _ in range(3):
            try:
                await store.stat("t/a/c/body")
            except StoreUnavailable:
                second.append(True)
            else:
                second.append(False)
    assert first == [True, True, False, False, False]
    assert second == [True, False, False]
    assert len(rows.hits) == 3
