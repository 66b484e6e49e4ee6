"""Asks a second target for the same bytes when the first is slow to begin, and takes who begins first.

Guarantees that the other stream is closed, whoever wins and however it ends, so that at most one piece
of it was read in vain; that a failure of one leaves the race to the other; and that stores which are all
slow are not asked twice for everything, which would make them slower still.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import StoreError
from gateway.targets.quorum import Target

Pieces = AsyncGenerator[bytes | memoryview]


class Watch(Protocol):
    """Whoever counts what reads meet with."""

    def began(self, target: str, seconds: float) -> None:
        """Count a read that a target began after so many seconds."""

    def hedged(self, *, won: bool) -> None:
        """Count a read for which a second target was asked; `won` if that one began first."""

    def replica_failed(self, target: str, reason: str) -> None:
        """Count a read that a target failed: `unavailable`, `denied`, `absent` or `damaged`."""


class Unwatched:
    """Counts nothing."""

    def began(self, target: str, seconds: float) -> None:
        """Implement `Watch.began`."""

    def hedged(self, *, won: bool) -> None:
        """Implement `Watch.hedged`."""

    def replica_failed(self, target: str, reason: str) -> None:
        """Implement `Watch.replica_failed`."""


class Budget:
    """How often a second target may be asked: `most` at once, and in the long run a `share` of all reads."""

    def __init__(self, most: float = 100.0, share: float = 0.1) -> None:
        self._most = most
        self._share = share
        self._left = most

    def earn(self) -> None:
        """Count a read."""
        self._left = min(self._most, self._left + self._share)

    def take(self) -> bool:
        """Take one, if there is one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class Turn:
    """Whose turn it is: the target that is read from, or that failed last."""

    target: Target


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream that began: after how many seconds, its first piece (None: empty), and the rest."""

    seconds: float
    piece: bytes | memoryview | None
    rest: Pieces


@dataclass(slots=True)
class _Runner:
    target: Target
    pieces: Pieces
    begun: float
    piece: bytes | memoryview | None = None
    error: StoreError | None = None
    ended: bool = False

    async def run(self) -> None:
        """Wait for the first piece, or keep the error."""
        try:
            self.piece = await anext(self.pieces, None)
        except StoreError as error:
            self.error = error
        self.ended = True

    @property
    def waited(self) -> float:
        return time.monotonic() - self.begun


async def begin(turn: Turn, ask: Callable[[Target], Pieces]) -> Begun:
    """Begin a read of one target. Raises its StoreError."""
    runner = _Runner(turn.target, ask(turn.target), time.monotonic())
    try:
        piece = await anext(runner.pieces, None)
    except BaseException:
        await runner.pieces.aclose()
        raise
    return Begun(runner.waited, piece, runner.pieces)


async def begin_either(
    turn: Turn,
    second: Target,
    ask: Callable[[Target], Pieces],
    *,
    after: float,
    budget: Budget,
    failed: Callable[[Target, StoreError], None],
    slower: Callable[[str, float], None],
    watch: Watch,
) -> Begun:
    """Begin a read of the turn's target, and of `second` too once `after` seconds brought no byte.

    The second is asked only if `budget` has room for it.

    The turn is then that of who began. `failed` is told of one that failed while the other goes on,
    `slower` of a first one that was overtaken. Raises the StoreError of who failed last, whose turn it
    was then.
    """
    race = _Race(turn.target, second, ask, failed, budget)
    try:
        winner = await race.run(after)
    finally:
        await race.close()
    if race.follower is not None:
        watch.hedged(won=winner is race.follower)
        if winner is race.follower and race.lead.error is None:
            slower(race.lead.target.name, race.lead.waited)
    turn.target = winner.target
    if winner.error is not None:
        raise winner.error
    return Begun(winner.waited, winner.piece, winner.pieces)


class _Race:
    """The first runs in the caller's own task, since it mostly runs alone; the second in one beside it."""

    def __init__(
        self,
        first: Target,
        second: Target,
        ask: Callable[[Target], Pieces],
        failed: Callable[[Target, StoreError], None],
        budget: Budget,
    ) -> None:
        budget.earn()
        self._budget = budget
        self.lead = _Runner(first, ask(first), time.monotonic())
        self.follower: _Runner | None = None
        self._second = second
        self._ask = ask
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._keep: _Runner | None = None

    async def run(self, after: float) -> _Runner:
        """Return who began first, or who failed last."""
        async with asyncio.TaskGroup() as group:
            try:
                async with asyncio.timeout(None) as patience:
                    timer = asyncio.get_running_loop().call_later(
                        after, self._start, group, patience
                    )
                    try:
                        await self.lead.run()
                    finally:
                        timer.cancel()
            except TimeoutError:  # the second has begun
                self._keep = self.follower
            else:
                self._keep = await self._without_the_lead() if self.lead.error else self.lead
            if self._task is not None:
                self._task.cancel()
        assert self._keep is not None  # noqa: S101 - every branch above sets it
        return self._keep

    async def close(self) -> None:
        """Close every stream but the one to go on with."""
        for runner in (self.lead, self.follower):
            if runner is not None and runner is not self._keep:
                await runner.pieces.aclose()

    def _start(self, group: asyncio.TaskGroup, patience: asyncio.Timeout) -> None:
        if not self._budget.take():
            return
        self.follower = _Runner(self._second, self._ask(self._second), time.monotonic())
        self._task = group.create_task(self._follow(self.follower, patience))

    async def _follow(self, follower: _Runner, patience: asyncio.Timeout) -> None:
        await follower.run()
        if self.lead.ended:
            return
        if follower.error is None:
            patience.reschedule(0)  # that is now: the lead need not be waited for any longer
        else:
            self._failed(follower.target, follower.error)

    async def _without_the_lead(self) -> _Runner:
        """Return who is left when the lead has failed."""
        if self._task is None or self.follower is None or self.follower.error is not None:
            return self.lead
        assert self.lead.error is not None  # noqa: S101 - the caller saw it
        self._failed(self.lead.target, self.lead.error)
        await asyncio.wait([self._task])
        return self.follower
