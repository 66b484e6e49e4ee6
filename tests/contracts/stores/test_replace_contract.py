"""What every store promises of replacing an object, on every adapter."""

import asyncio
from contextlib import suppress

import pytest

from gateway.errors import ObjectMissing, StoreUnavailable
from gateway.model import envelope_key, new_id
from gateway.ports import Store
from tests.contracts.stores.conftest import MIB
from tests.contracts.stores.test_store_contract import (
    DATA,
    TENANT,
    begun,
    content,
    listed,
    piece,
)


async def test_an_object_is_replaced_whole(store: Store) -> None:
    key = envelope_key(TENANT, new_id())
    await store.put(key, piece(DATA[:1000]))
    for size in (1200, 0, 700):
        await store.replace(key, piece(DATA[size : 2 * size]))
        assert await content(store, key) == DATA[size : 2 * size]
    assert [each.size for each in await listed(store, key)] == [700]
    assert not await begun(store)


async def test_nothing_is_created_by_replacing(store: Store) -> None:
    key = envelope_key(TENANT, new_id())
    with pytest.raises(ObjectMissing):
        await store.replace(key, piece(b"new"))
    assert not await listed(store, key)
    await store.put(key, piece(b"old"))
    await store.delete(key)
    with pytest.raises(ObjectMissing):
        await store.replace(key, piece(b"new"))
    assert not await listed(store, key)
    assert not await begun(store)


async def test_a_reader_of_what_is_replaced_gets_one_or_the_other(store: Store) -> None:
    """Several replace it at once, while others read: each of them whole, and one of them last."""
    key = envelope_key(TENANT, new_id())
    wholes = [DATA[each : each + 200_000 + each] for each in range(3)]
    await store.put(key, piece(wholes[0]))

    async def write(data: bytes) -> None:
        for _ in range(3):
            with suppress(StoreUnavailable):  # another one was in the way
                await store.replace(key, piece(data))

    async def read() -> None:
        for _ in range(6):
            assert await content(store, key) in wholes

    await asyncio.gather(*map(write, wholes), read(), read())
    assert await content(store, key) in wholes


async def test_a_cancelled_replacement_leaves_one_or_the_other(store: Store) -> None:
    key, old, new = envelope_key(TENANT, new_id()), DATA[: MIB // 2], DATA[1 : MIB // 2]
    await store.put(key, piece(old))
    for pause in (0.0, 0.001, 0.004, 0.016):
        task = asyncio.create_task(store.replace(key, piece(new)))
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await content(store, key) in {old, new}
