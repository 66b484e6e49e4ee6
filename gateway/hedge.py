"""Asks a second target for the same bytes when the first is slow to begin, and takes who begins first.

Guarantees that the other stream is closed, whoever wins and however it ends, so that at most one piece
of it was read in vain; and that a failure of one leaves the race to the other.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import StoreError
from gateway.quorum import Target

Pieces = AsyncGenerator[bytes | memoryview]


class Watch(Protocol):
    """Whoever counts what reads meet with."""

    def hedged(self, *, won: bool) -> None:
        """Count a read for which a second target was asked; `won` if that one began first."""

    def replica_failed(self, target: str, reason: str) -> None:
        """Count a read that a target failed: `unavailable`, `denied`, `absent` or `damaged`."""


class Unwatched:
    """Counts nothing."""

    def hedged(self, *, won: bool) -> None:
        """Implement `Watch.hedged`."""

    def replica_failed(self, target: str, reason: str) -> None:
        """Implement `Watch.replica_failed`."""


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

    async def run(self) -> None:
        """Wait for the first piece, or keep the error."""
        try:
            self.piece = await anext(self.pieces, None)
        except StoreError as error:
            self.error = error

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
    failed: Callable[[Target, StoreError], None],
    slower: Callable[[str, float], None],
    watch: Watch,
) -> Begun:
    """Begin a read of the turn's target, and of `second` too once `after` seconds brought no byte.

    The turn is then that of who began. `failed` is told of one that failed while the other goes on,
    `slower` of a first one that was overtaken. Raises the StoreError of who failed last, whose turn it
    was then.
    """
    runners = [_Runner(turn.target, ask(turn.target), time.monotonic())]
    winner: _Runner | None = None
    try:
        async with asyncio.TaskGroup() as group:
            lead = group.create_task(runners[0].run())
            running = {lead: runners[0]}
            await asyncio.wait(running, timeout=after)
            if not lead.done():
                runners.append(_Runner(second, ask(second), time.monotonic()))
                running[group.create_task(runners[1].run())] = runners[1]
            winner = await _race(running, turn, failed)
            for task, runner in running.items():
                task.cancel()
                if runner is runners[0]:
                    slower(runner.target.name, runner.waited)
    finally:
        for runner in runners:
            if runner is not winner:
                await runner.pieces.aclose()
    if len(runners) > 1:
        watch.hedged(won=winner is runners[1])
    if winner is None:
        raise next(r.error for r in runners if r.target is turn.target and r.error is not None)
    return Begun(winner.waited, winner.piece, winner.pieces)


async def _race(
    running: dict[asyncio.Task[None], _Runner],
    turn: Turn,
    failed: Callable[[Target, StoreError], None],
) -> _Runner | None:
    """Return the first runner that began, taken out of `running`; None when all failed."""
    while running:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        runner = running.pop(next(task for task in running if task.done()))
        turn.target = runner.target
        if runner.error is None:
            return runner
        if running:
            failed(runner.target, runner.error)
    return None
