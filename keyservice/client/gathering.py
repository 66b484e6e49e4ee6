"""Calls for one item each that come while others are under way, sent together as the next one.

Guarantees: nobody waits on purpose, a call goes at once while fewer than `at_once` of its kind are under
way; no item is sent twice unless its sending was broken off; a failure reaches those who went along and
nobody else; a caller who is cancelled takes nobody down with it: if it was the one sending, it leaves once
those are answered who still wait, or at a second cancellation, after which they go with the next; and
nobody waits for others longer than `patience`, so that where no call is answered a queue of callers does not
wait for one call after another. No task outlives the call that began it, and nothing is kept. It does not
decide who may go together: a kind must hold everything in which they must not differ.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")


@dataclass(slots=True)
class _Waiter(Generic[T, V]):
    """An item that waits: to be answered, or (None) to be sent by the one who waits for it."""

    item: T = field(repr=False)
    told: asyncio.Future[tuple[V] | None] = field(repr=False)


@dataclass(slots=True)
class _Line(Generic[T, V]):
    """What is under way of one kind, and what waits."""

    sending: int = 0
    waiting: deque[_Waiter[T, V]] = field(default_factory=deque, repr=False)


class Gathering(Generic[K, T, V]):
    """`send` takes items of one kind, `most` at a time, and returns as many answers in their order.

    `patience` is how many seconds one waits until he is answered, or begins to send himself.
    """

    def __init__(
        self,
        send: Callable[[K, Sequence[T]], Awaitable[Sequence[V]]],
        *,
        at_once: int = 2,
        most: int = 64,
        patience: float | None = None,
    ) -> None:
        self._send = send
        self._at_once = at_once
        self._most = most
        self._patience = patience
        self._lines: dict[K, _Line[T, V]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    async def one(self, kind: K, item: T) -> V:
        """Return the answer to one item; raises what `send` raises, and TimeoutError."""
        line = self._lines.setdefault(kind, _Line())
        if line.sending < self._at_once:
            line.sending += 1
            return await self._lead(kind, line, item)
        waiter: _Waiter[T, V] = _Waiter(item, asyncio.get_running_loop().create_future())
        line.waiting.append(waiter)
        try:
            async with asyncio.timeout(self._patience):
                told = await waiter.told
        except (asyncio.CancelledError, TimeoutError):
            if _was_to_send(waiter.told):
                self._next(kind, line)
            raise
        return told[0] if told is not None else await self._lead(kind, line, item)

    async def _lead(self, kind: K, line: _Line[T, V], item: T) -> V:
        """Send the item, and with it what waits. The sending is counted already."""
        along = self._along(line)
        try:
            if not along:
                return (await self._send(kind, [item]))[0]
            return await self._carry(kind, item, along)
        except asyncio.CancelledError:
            line.waiting.extendleft(waiter for waiter in reversed(along) if not waiter.told.done())
            raise
        finally:
            self._next(kind, line)

    async def _carry(self, kind: K, item: T, along: Sequence[_Waiter[T, V]]) -> V:
        """Send for others as well, and do not leave them while any of them waits.

        What is on record as sent would be sent again if it were broken off.
        """

        async def send() -> V | Exception:
            try:
                answers = await self._send(kind, [item, *(waiter.item for waiter in along)])
            except Exception as error:  # noqa: BLE001 - told to everybody who waits for it
                for waiter in along:
                    if not waiter.told.done():
                        waiter.told.set_exception(error)
                return error
            for waiter, answer in zip(along, answers[1:], strict=True):
                if not waiter.told.done():
                    waiter.told.set_result((answer,))
            return answers[0]

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            try:
                await asyncio.wait([sending])
            except asyncio.CancelledError:
                while not sending.done() and (left := _waiting(along)):
                    await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                raise
        answer = sending.result()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _along(self, line: _Line[T, V]) -> list[_Waiter[T, V]]:
        """Return those who go along: the first that wait and were not cancelled."""
        along: list[_Waiter[T, V]] = []
        while line.waiting and len(along) < self._most - 1:
            waiter = line.waiting.popleft()
            if not waiter.told.done():
                along.append(waiter)
        return along

    def _next(self, kind: K, line: _Line[T, V]) -> None:
        """End one sending: the first that waits sends instead, or there is one less."""
        while line.waiting:
            waiter = line.waiting.popleft()
            if not waiter.told.done():
                waiter.told.set_result(None)
                return
        line.sending -= 1
        if not line.sending and self._lines.get(kind) is line:
            del self._lines[kind]


def _waiting(along: Sequence[_Waiter[T, V]]) -> list[asyncio.Future[tuple[V] | None]]:
    return [waiter.told for waiter in along if not waiter.told.done()]


def _was_to_send(told: asyncio.Future[tuple[V] | None]) -> bool:
    """Tell whether a waiter that leaves had just been told to send."""
    if not told.done() or told.cancelled() or told.exception() is not None:
        return False
    return told.result() is None
