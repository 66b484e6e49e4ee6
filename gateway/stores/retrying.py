"""Any store, tried again where that is safe.

Guarantees: a call is tried a bounded number of times within its deadline; nothing is created twice or
taken for somebody else's because an answer was lost; a broken read goes on at the byte where it broke.
Tries again what was unavailable, and bodies that arrived damaged. A damaged object, a refusal, a full
store and `check` are told at once, and what a store once called damaged is never taken for good.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)
from gateway.ports import PartUpload, Piece, Stat, Store, Unfinished
from gateway.stores.retry import Overdue, RetryBudget, RetryPolicy, Tries, full_jitter


class RetryingStore:
    """See the module. Several stores may share a budget; `sleep` and `jitter` are for tests."""

    def __init__(
        self,
        store: Store,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = full_jitter,
    ) -> None:
        self._store = store
        self._tries = Tries(policy or RetryPolicy(), budget or RetryBudget(), sleep, jitter)

    def __repr__(self) -> str:
        return f"RetryingStore({self._store!r})"

    @property
    def once(self) -> Store:
        """The store itself, which tries nothing twice: for those who may ask another instead."""
        return self._store

    async def put(self, key: str, piece: Piece) -> None:
        """See the port."""
        creation = _Creation(self._store, key, lambda: self._store.put(key, piece), self._tries)
        await creation.make(self._tries.body, len(piece.data))

    async def replace(self, key: str, piece: Piece) -> None:
        """See the port."""
        await self._tries.body(lambda: self._store.replace(key, piece))

    async def begin(self, key: str) -> PartUpload:
        """See the port. A lost answer may leave an unfinished upload behind."""
        upload = await self._tries.call(lambda: self._store.begin(key))
        return _RetryingUpload(self._store, key, upload, self._tries)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes | memoryview]:
        """See the port."""
        failures = 0
        while True:
            try:
                async with aclosing(self._store.read(key, start, stop)) as pieces:
                    async for block in pieces:
                        start += len(block)
                        failures = 0
                        yield block
            except StoreUnavailable as error:
                failures += 1
                await self._tries.pause(failures, error)
            else:
                self._tries.budget.succeeded()
                return

    async def stat(self, key: str) -> Stat:
        """See the port."""
        return await self._tries.call(lambda: self._store.stat(key))

    async def delete(self, key: str) -> None:
        """See the port."""
        await self._tries.call(lambda: self._store.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        """See the port. After a failure it lists again and leaves out what it told already.

        What comes out of order is told all the same; only, nobody can say then what was told already, so
        that a failure is told at once.
        """
        last, ordered, again = "", True, False
        failures = 0
        while True:
            try:
                async for each in self._store.list(prefix):
                    if again and each.key <= last:
                        continue
                    ordered, again = ordered and each.key > last, False
                    last = each.key
                    failures = 0
                    yield each
            except StoreUnavailable as error:
                if not ordered:
                    raise
                failures += 1
                await self._tries.pause(failures, error)
                again = True
            else:
                return

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        """See the port. After a failure it lists again and leaves out what it told already."""
        told: set[tuple[str, str]] = set()
        failures = 0
        while True:
            try:
                async for each in self._store.unfinished(prefix):
                    if (each.key, each.id) not in told:
                        told.add((each.key, each.id))
                        failures = 0
                        yield each
            except StoreUnavailable as error:
                failures += 1
                await self._tries.pause(failures, error)
            else:
                return

    async def touched(self, upload: Unfinished) -> datetime:
        """See the port."""
        return await self._tries.call(lambda: self._store.touched(upload))

    async def discard(self, upload: Unfinished) -> None:
        """See the port."""
        await self._tries.call(lambda: self._store.discard(upload))

    async def check(self) -> None:
        """See the port. Not tried again: it is asked how the store is now."""
        try:
            async with asyncio.timeout(self._tries.policy.check_deadline):
                await self._store.check()
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None

    async def close(self) -> None:
        """See the port."""
        await self._store.close()


class _Creation:
    """One object's creation, which may find that an earlier try of its own has succeeded.

    Keys are random, so what lies under ours with our size after an answer was lost is ours. Not so
    when the store called any try damaged (a size proves no bytes), nor when the deadline ended one:
    what it left may be visible before it is durable.
    """

    def __init__(
        self, store: Store, key: str, create: Callable[[], Awaitable[None]], tries: Tries
    ) -> None:
        self._store = store
        self._key = key
        self._create = create
        self._tries = tries
        self._tried = False
        self._damaged: StoreDamaged | None = None

    async def make(
        self, repeat: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]], size: int
    ) -> None:
        """Create it, as often as `repeat` likes. Raises ObjectExists if it is somebody else's."""
        try:
            await repeat(lambda: self._try(size))
        except Overdue:
            raise
        except StoreUnavailable as error:
            # A store that refuses a body before it has read it may cut off its own answer.
            try:
                async with asyncio.timeout(self._tries.policy.longest_pause):
                    await self._recognise(size, error)
            except (TimeoutError, StoreUnavailable):
                raise error from None

    async def _try(self, size: int) -> None:
        before, self._tried = self._tried, True
        try:
            await self._create()
        except StoreDamaged as error:
            self._damaged = error
            raise
        except (ObjectExists, ObjectMissing) as error:  # the key is taken, or the upload is over
            if not before:
                raise
            await self._recognise(size, error)

    async def _recognise(self, size: int, error: StoreError) -> None:
        """Return if what we were to create is there; else raise what that means."""
        if self._damaged is not None:
            raise self._damaged
        try:
            found = await self._store.stat(self._key)
        except ObjectMissing:
            raise error from None
        if found.size != size:
            raise ObjectExists("the key is taken")


class _RetryingUpload:
    """One object in parts, tried again. See `PartUpload`."""

    def __init__(self, store: Store, key: str, upload: PartUpload, tries: Tries) -> None:
        self._upload = upload
        self._tries = tries
        self._sizes: dict[int, int] = {}
        self._creation = _Creation(store, key, upload.complete, tries)

    async def part(self, number: int, piece: Piece) -> None:
        await self._tries.body(lambda: self._upload.part(number, piece))
        self._sizes[number] = len(piece.data)

    async def complete(self) -> None:
        await self._creation.make(self._tries.settle, sum(self._sizes.values()))

    async def abort(self) -> None:
        await self._tries.call(self._upload.abort)
