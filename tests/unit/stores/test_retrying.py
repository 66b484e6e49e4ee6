"""When a store is tried again, when not, and what a lost answer means."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from gateway.ports import PartUpload, Piece, Stat
from gateway.stores.memory import MemoryStore
from gateway.stores.retry import RetryBudget, RetryPolicy
from gateway.stores.retrying import RetryingStore
from tests.contracts.stores.faulty import FaultyStore, no_sleep

KEY = "t/a/b/body"


def piece(data: bytes = b"sealed") -> Piece:
    return Piece(memoryview(data), 0)


class Scripted(MemoryStore):
    """Raises what its script says, one entry a call, before or after the work is done."""

    def __init__(self, *script: StoreError | None, after: bool = False) -> None:
        super().__init__()
        self.script = list(script)
        self.after = after
        self.calls = 0

    async def put(self, key: str, piece: Piece) -> None:
        error = self._next()
        if error is None or self.after:
            await super().put(key, piece)
        if error:
            raise error

    async def stat(self, key: str) -> Stat:
        if error := self._next():
            raise error
        return await super().stat(key)

    async def check(self) -> None:
        if error := self._next():
            raise error

    async def begin(self, key: str) -> PartUpload:
        return ScriptedUpload(await super().begin(key), self)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        async with aclosing(super().read(key, start, stop)) as pieces:
            async for each in pieces:
                if error := self._next():
                    yield each[:3]
                    raise error
                yield each

    def _next(self) -> StoreError | None:
        self.calls += 1
        return self.script.pop(0) if self.script else None


class ScriptedUpload:
    """The upload of a scripted store."""

    def __init__(self, upload: PartUpload, store: Scripted) -> None:
        self._upload = upload
        self._store = store

    async def part(self, number: int, piece: Piece) -> None:
        if error := self._store._next():
            raise error
        await self._upload.part(number, piece)

    async def complete(self) -> None:
        error = self._store._next()
        if error is None or self._store.after:
            await self._upload.complete()
        if error:
            raise error

    async def abort(self) -> None:
        await self._upload.abort()


class Clock:
    """Remembers the pauses instead of making them."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def retrying(
    store: MemoryStore,
    policy: RetryPolicy | None = None,
    budget: RetryBudget | None = None,
    clock: Clock | None = None,
) -> RetryingStore:
    sleep = (clock or Clock()).sleep
    return RetryingStore(store, policy, budget, sleep=sleep, jitter=lambda: 1.0)


async def read(store: RetryingStore) -> bytes:
    async with aclosing(store.read(KEY)) as pieces:
        return b"".join([each async for each in pieces])


async def test_pauses_grow_up_to_a_bound() -> None:
    clock = Clock()
    store = Scripted(*[StoreUnavailable()] * 7)
    policy = RetryPolicy(tries=8, first_pause=0.1, longest_pause=2.0)
    await retrying(store, policy, clock=clock).put(KEY, piece())
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_pauses_are_spread_over_the_whole_bound() -> None:
    clock = Clock()
    store = RetryingStore(
        Scripted(*[StoreUnavailable()] * 3),
        sleep=clock.sleep,
        jitter=iter([0.0, 0.5, 0.25]).__next__,
    )
    await store.put(KEY, piece())
    assert clock.pauses == [0.0, 0.1, 0.1]


async def test_tries_are_bounded() -> None:
    store = Scripted(*[StoreUnavailable("no answer")] * 100)
    with pytest.raises(StoreUnavailable, match="no answer"):
        await retrying(store, RetryPolicy(tries=3)).stat(KEY)
    assert store.calls == 3


async def test_a_store_is_given_the_pause_that_it_asks_for() -> None:
    clock = Clock()
    store = Scripted(StoreUnavailable(retry_after=2))
    await retrying(store, clock=clock).put(KEY, piece())
    assert clock.pauses == [2.1]


async def test_a_store_that_asks_for_too_long_a_pause_is_left_alone() -> None:
    store = Scripted(StoreUnavailable(retry_after=60))
    with pytest.raises(StoreUnavailable) as raised:
        await retrying(store).stat(KEY)
    assert raised.value.retry_after == 60
    assert store.calls == 1


@pytest.mark.parametrize(
    "error", [StoreDenied(), StoreFull(), ObjectExists()], ids=lambda error: type(error).__name__
)
async def test_what_trying_again_cannot_help_is_told_at_once(error: StoreError) -> None:
    store = Scripted(error)
    with pytest.raises(type(error)):
        await retrying(store).put(KEY, piece())
    assert store.calls == 1


async def test_a_body_that_arrived_damaged_is_sent_again() -> None:
    store = Scripted(StoreDamaged(), None, StoreDamaged())
    tried = retrying(store)
    await tried.put(KEY, piece())
    upload = await tried.begin("other")
    await upload.part(1, piece())
    await upload.complete()
    assert await read(tried) == b"sealed"


async def test_a_put_whose_answer_was_lost_has_succeeded() -> None:
    store = Scripted(StoreUnavailable(), after=True)
    await retrying(store).put(KEY, piece())
    assert (await store.stat(KEY)).size == 6


async def test_a_put_of_which_every_answer_is_lost_has_succeeded() -> None:
    store = Scripted(StoreUnavailable(), after=True)
    await retrying(store, RetryPolicy(tries=1)).put(KEY, piece())
    assert (await store.stat(KEY)).size == 6


async def test_an_object_of_another_size_is_somebody_elses() -> None:
    store = Scripted(StoreUnavailable())
    await MemoryStore.put(store, KEY, piece(b"another"))
    with pytest.raises(ObjectExists):
        await retrying(store).put(KEY, piece())
    store.script = [StoreUnavailable()]
    with pytest.raises(ObjectExists):
        await retrying(store, RetryPolicy(tries=1)).put(KEY, piece())


async def test_a_taken_key_at_the_first_try_is_taken() -> None:
    store = Scripted()
    await store.put(KEY, piece())
    with pytest.raises(ObjectExists):
        await retrying(store).put(KEY, piece())


async def test_a_completion_whose_answer_was_lost_has_succeeded() -> None:
    store = Scripted(None, StoreUnavailable(), after=True)
    upload = await retrying(store).begin(KEY)
    await upload.part(1, piece())
    await upload.complete()  # the second try finds no upload any more
    assert (await store.stat(KEY)).size == 6


async def test_an_object_that_was_completed_damaged_stays_damaged() -> None:
    # The store has made the object and then tells, by another checksum, that it is a bad one.
    store = Scripted(None, StoreDamaged("other bytes"), after=True)
    upload = await retrying(store).begin(KEY)
    await upload.part(1, piece())
    for _ in range(2):  # who asks again learns the same
        with pytest.raises(StoreDamaged, match="other bytes"):
            await upload.complete()
    assert (await store.stat(KEY)).size == 6


async def test_a_damaged_completion_is_not_tried_again() -> None:
    store = Scripted(None, StoreDamaged())
    upload = await retrying(store).begin(KEY)
    await upload.part(1, piece())
    with pytest.raises(StoreDamaged):
        await upload.complete()
    assert store.calls == 2


async def test_a_put_that_left_a_damaged_object_is_not_taken_for_good() -> None:
    store = Scripted(StoreDamaged("other bytes"), after=True)
    with pytest.raises(StoreDamaged, match="other bytes"):
        await retrying(store).put(KEY, piece())


async def test_what_an_overdue_try_left_is_not_taken_for_good() -> None:
    class Slow(MemoryStore):
        async def put(self, key: str, piece: Piece) -> None:
            await super().put(key, piece)  # visible, but not known to be durable
            await asyncio.sleep(60)

    store = Slow()
    with pytest.raises(StoreUnavailable, match="in time"):
        await retrying(store, RetryPolicy(body_deadline=0.05)).put(KEY, piece())
    assert (await store.stat(KEY)).size == 6


async def test_an_upload_that_was_taken_away_is_missing() -> None:
    store = Scripted(None, StoreUnavailable())
    upload = await retrying(store).begin(KEY)
    await upload.part(1, piece())
    async for each in store.unfinished(""):
        await store.discard(each)
    with pytest.raises(ObjectMissing):
        await upload.complete()


async def test_a_broken_read_goes_on_where_it_broke() -> None:
    store = Scripted()
    await store.put(KEY, piece(bytes(range(200))))
    store.script = [StoreUnavailable()] * 50
    # Each try brings three bytes, so it never fails often in a row.
    assert await read(retrying(store, RetryPolicy(tries=2))) == bytes(range(200))


async def test_a_read_that_gets_nowhere_ends() -> None:
    faulty = FaultyStore(MemoryStore(), random.Random(1), rate=2.0)
    with pytest.raises(StoreUnavailable):
        await read(RetryingStore(faulty, sleep=no_sleep))


async def test_a_damaged_object_is_told_at_once() -> None:
    store = Scripted()
    await store.put(KEY, piece())
    store.calls = 0
    store.script = [StoreDamaged()]
    with pytest.raises(StoreDamaged):
        await read(retrying(store))
    assert store.calls == 1


async def test_a_reader_that_leaves_closes_the_stream() -> None:
    closed = []

    class Watched(MemoryStore):
        async def read(
            self, key: str, start: int = 0, stop: int | None = None
        ) -> AsyncGenerator[bytes]:
            try:
                async with aclosing(super().read(key, start, stop)) as pieces:
                    async for each in pieces:
                        yield each
            finally:
                closed.append(key)

    store = Watched()
    await store.put(KEY, piece(bytes(1024 * 1024)))
    async with aclosing(retrying(store).read(KEY)) as pieces:
        await anext(pieces)
    assert closed == [KEY]


async def test_a_check_is_made_once() -> None:
    store = Scripted(StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable, match="down"):
        await retrying(store).check()
    await retrying(store).check()


async def test_a_deadline_holds_for_all_tries() -> None:
    class Silent(MemoryStore):
        async def stat(self, key: str) -> Stat:
            await asyncio.sleep(60)
            return await super().stat(key)

        async def put(self, key: str, piece: Piece) -> None:
            await asyncio.sleep(60)
            await super().put(key, piece)

        async def check(self) -> None:
            await asyncio.sleep(60)

    policy = RetryPolicy(check_deadline=0.05, call_deadline=0.05, body_deadline=0.05)
    store = retrying(Silent(), policy)
    async with asyncio.timeout(50):
        for call in (store.stat(KEY), store.put(KEY, piece()), store.check()):
            with pytest.raises(StoreUnavailable, match="in time"):
                await call


async def test_a_deadline_in_a_pause_tells_the_last_error() -> None:
    store = RetryingStore(
        Scripted(*[StoreUnavailable("answered 503")] * 9),
        RetryPolicy(tries=9, first_pause=60, longest_pause=60, call_deadline=0.05),
        jitter=lambda: 1.0,
    )
    with pytest.raises(StoreUnavailable, match="answered 503"):
        await store.stat(KEY)


async def test_a_shared_budget_ends_the_tries_of_all() -> None:
    budget = RetryBudget(capacity=5)
    down = [Scripted(*[StoreUnavailable()] * 100) for _ in range(4)]
    for each in down:
        with pytest.raises(StoreUnavailable):
            await retrying(each, RetryPolicy(tries=4), budget).stat(KEY)
    assert sum(each.calls for each in down) == 4 + 5
    assert (budget.taken, budget.refused) == (5, 3)


async def test_success_fills_the_budget_again() -> None:
    budget = RetryBudget(capacity=1, refund=0.5)
    assert budget.take()
    store = retrying(Scripted(), budget=budget)
    for number in range(2):
        assert not budget.take()
        await store.put(f"a{number}", piece())
    assert budget.take()


async def test_nearly_all_calls_succeed_when_one_in_twenty_fails() -> None:
    faulty = FaultyStore(MemoryStore(), random.Random(3), rate=0.05)
    store = RetryingStore(faulty, sleep=no_sleep)
    failed = 0
    for number in range(3000):
        try:
            await store.put(f"t/{number}", piece())
        except StoreUnavailable:
            failed += 1
    assert failed <= 3
