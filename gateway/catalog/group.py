"""Group commit: what comes to be written while a transaction runs shares the next one.

A transaction on disk costs the same for one call as for thirty, so nobody waits on purpose and nobody
queues for a disk of its own. Guarantees that calls run one after another, in order; that each fails or
succeeds by itself as long as their transaction holds; that none is told anything before that is durable;
that when it fails all of them learn it, those too that had failed by themselves, because they may have
failed over what is no longer there; and that a cancelled call is whole, or undone if it had not begun.
"""

import asyncio
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine

from gateway.catalog.rest import rest
from gateway.errors import CatalogUnavailable

T = TypeVar("T")
Work = Callable[[Connection], Any]
MOST = 64  # calls in a transaction, so that those behind them do not wait for ever


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call, once its transaction is durable."""

    result: Any = field(default=None, repr=False)
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What somebody waits for."""

    work: Work
    done: asyncio.Future[Any]

    @property
    def left(self) -> bool:
        """Whether nobody waits for it any more. Any thread may ask."""
        return self.done.cancelled()

    def end(self, outcome: Outcome) -> None:
        """Tell the caller, if it is still there."""
        if self.done.done():
            return
        if outcome.error is None:
            self.done.set_result(outcome.result)
        else:
            self.done.set_exception(outcome.error)


class Group:
    """One thread that writes. `transaction` carries out several calls and tells what became of each.

    It may leave the last ones for the next transaction. `settle`, if it is given, is what makes it durable
    after it. `share` is the part of the time that it may write: it rests after each transaction in
    proportion to how long that took, since SQLite's lock goes to whoever asks first.
    """

    def __init__(
        self,
        transaction: Callable[[Sequence[Call]], Sequence[Outcome]],
        *,
        settle: Callable[[], None] | None = None,
        share: float = 1.0,
    ) -> None:
        self._transaction = transaction
        self._settle = settle
        self._share = share
        self._thread = ThreadPoolExecutor(1, "catalog-write")
        self._waiting: deque[Call] = deque()
        self._running = False
        self._closed = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Carry out `work` in a transaction that it may share, and return what it did."""
        if self._closed:
            raise CatalogUnavailable("the catalog is closed")
        loop = asyncio.get_running_loop()
        call = Call(work, loop.create_future())
        self._waiting.append(call)
        if not self._running:
            self._running = True
            loop.call_soon(self._next)  # so that those who are ready to write now go together
        return cast("T", await call.done)

    async def close(self) -> None:
        """End after the transaction that runs; whoever still waits is refused."""
        self._closed = True
        self._refuse()
        await asyncio.to_thread(self._thread.shutdown)

    def _refuse(self) -> None:
        while self._waiting:
            refusal = CatalogUnavailable("the catalog is closed")
            self._waiting.popleft().end(Outcome(error=refusal))

    def _next(self) -> None:
        calls: list[Call] = []
        while self._waiting and len(calls) < MOST:
            call = self._waiting.popleft()
            if not call.left:
                calls.append(call)
        self._running = bool(calls)
        if calls:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._thread, self._carry_out, calls)
            future.add_done_callback(partial(self._ended, calls))

    def _carry_out(self, calls: Sequence[Call]) -> tuple[Sequence[Outcome], float]:
        """Return what became of the first calls, and until when to rest."""
        began = time.monotonic()
        outcomes = self._transaction(calls)
        ended = time.monotonic()
        if self._settle is not None:
            self._settle()
        return outcomes, ended + rest(ended - began, self._share)

    def _ended(
        self, calls: Sequence[Call], future: asyncio.Future[tuple[Sequence[Outcome], float]]
    ) -> None:
        if (error := future.exception()) is None:
            outcomes, until = future.result()
        else:
            outcomes, until = [Outcome(error=error)] * len(calls), time.monotonic()
        for call, outcome in zip(calls, outcomes, strict=False):
            call.end(outcome)
        self._waiting.extendleft(reversed(calls[len(outcomes) :]))
        if self._closed:  # meanwhile: those who are left will have no turn
            self._refuse()
        if (pause := until - time.monotonic()) > 0:
            asyncio.get_running_loop().call_later(pause, self._next)
        else:
            self._next()


def together(engine: Engine, calls: Sequence[Call], *, longest: float = math.inf) -> list[Outcome]:
    """Carry out calls in one transaction, each in a savepoint of its own. Raises what ended them all.

    After `longest` seconds none is begun, and the last ones have no outcome.
    """
    outcomes: list[Outcome] = []
    with engine.begin() as connection:
        until = time.monotonic() + longest
        driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        for call in calls:
            if call.left:
                outcomes.append(Outcome())
                continue
            driver.execute("SAVEPOINT call")
            try:
                outcomes.append(Outcome(call.work(connection)))
            except Exception as error:
                if not driver.in_transaction:  # a full disk, say: SQLite has undone everything
                    raise
                driver.execute("ROLLBACK TO call")
                outcomes.append(Outcome(error=error))
            driver.execute("RELEASE call")
            if time.monotonic() >= until:
                break
    return outcomes
