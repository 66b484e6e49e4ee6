"""What is told of a listing that breaks, or that is not in order of keys."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gateway.errors import StoreUnavailable
from gateway.ports import Stat
from gateway.stores.memory import MemoryStore
from gateway.stores.retrying import RetryingStore
from tests.contracts.stores.faulty import no_sleep


class Listed(MemoryStore):
    """Lists these keys, in this order; fails once behind so many."""

    def __init__(self, *keys: str, fails: int | None = None) -> None:
        super().__init__()
        self._listed = keys
        self._fails = fails

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        for number, key in enumerate(self._listed):
            if number == self._fails:
                self._fails = None
                raise StoreUnavailable
            yield Stat(f"{prefix}{key}", 1, datetime.now(UTC))


async def _names(store: MemoryStore) -> str:
    retrying = RetryingStore(store, sleep=no_sleep)
    return "".join([each.key.removeprefix("t/") async for each in retrying.list("t/")])


async def test_a_listing_that_breaks_is_told_once() -> None:
    assert await _names(Listed(*"abcd", fails=2)) == "abcd"


async def test_nothing_of_a_listing_that_is_out_of_order_is_left_out() -> None:
    assert await _names(Listed(*"cadb")) == "cadb"
    assert await _names(Listed(*"abdc", fails=2)) == "abdc"


async def test_a_listing_that_is_out_of_order_is_not_gone_on_with() -> None:
    with pytest.raises(StoreUnavailable):
        await _names(Listed(*"cadb", fails=2))
