"""One blob's ciphertext on its way to every target at once, acknowledged at a quorum.

Guarantees that memory is bounded by `window` buffers whatever the targets do; that a backup which
falls behind is let go (and reported as not holding the blob) instead of holding the client, as long
as the quorum stays possible without it; that where a degraded acknowledgement is allowed, and the
quorum is out of reach, every target that is left has its chance instead; that the envelope is written
on a target only after its body is complete there; and that what a failed target was left with is
removed. Does not repair what a lagging backup misses.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.errors import StoreError, StoreFull
from gateway.flow.buffers import Load, Pool
from gateway.flow.lane import Lane
from gateway.pacing.background import Background
from gateway.ports import Piece
from gateway.targets.placing import Roster
from gateway.targets.quorum import Quorum, QuorumLost, Target

LOOK = 1.0  # seconds after which an upload that waits looks whether another one is the primary now
TOLERANCE = 0.1  # share of the upload's time that a backup may add before it counts as behind


@dataclass(frozen=True, slots=True)
class FanSettings:
    """How an upload spreads.

    `window` buffers in flight an upload; `parallel` parts at once a target; `patience` seconds that
    backups may keep an upload waiting, beyond a tenth of its time, before they are let go. `degraded`:
    where the quorum is out of reach, one target is enough.
    """

    window: int = 3
    parallel: int = 2
    patience: float = 2.0
    degraded: bool = False


class Replication:
    """What every upload shares: the targets in their roles of the moment, and the buffers."""

    def __init__(
        self,
        roster: Callable[[], Roster],
        *,
        pool: Pool,
        background: Background,
        settings: FanSettings,
    ) -> None:
        self.roster = roster  # what holds at the time of asking
        self.pool = pool
        self.background = background
        self.settings = settings

    def fan(self, tenant: str, blob: str, quorum: Quorum) -> "Fan":
        """Return the fan for one blob, which is acknowledged at `quorum`."""
        return Fan(self, tenant, blob, quorum)

    def possible(self, quorum: Quorum, names: Collection[str], roster: Roster) -> bool:
        """Tell whether an upload may be acknowledged that only the targets called `names` hold."""
        if quorum.satisfied(roster.targets, names):
            return True
        return self.settings.degraded and bool(names)


class Fan:
    """All lanes of one blob, as an async context manager around the stream that feeds it."""

    def __init__(self, shared: Replication, tenant: str, blob: str, quorum: Quorum) -> None:
        self._shared = shared
        self.quorum = quorum
        self.targets = shared.roster().targets
        self._group = asyncio.TaskGroup()
        self._changed = asyncio.Event()
        self._lanes = [
            Lane(target, tenant, blob, parallel=shared.settings.parallel, changed=self._changed.set)
            for target in self.targets
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._out: set[Load] = set()
        self._tenant = tenant
        self._sent = False
        self._began = time.monotonic()
        self._waited = 0.0
        self._sufficing: Sequence[Target] | None = None  # targets of whom all lanes were enough
        self.body_size = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for lane in self._lanes:
            task = self._group.create_task(lane.run(), name=f"lane {lane.target.name}")
            self._tasks.append(task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            for load in tuple(self._out):  # of a source that broke, or a lane that never ran
                load.abandon()
            for lane in self._lanes:
                if lane.failed and error is None:
                    self._shared.background.start("clean up after a lane", lane.leave())

    async def take(self, size: int) -> Load:
        """Return an empty buffer, waiting while `window` of them are out.

        Raises QuorumLost, and Busy when the memory for parts stays spent.
        """
        while len(self._out) >= self._shared.settings.window:
            await self._wait(self._idle)
        self._check()
        data = await self._shared.pool.draw(size, self._tenant)
        load = Load(data, self._shared.pool, self._tenant, self._freed)
        self._out.add(load)
        return load

    def send(self, load: Load) -> None:
        """Send a filled buffer as one of several parts, and let go of it."""
        self._spread(load, whole=False)

    def send_last(self, load: Load) -> None:
        """Send the last buffer: the whole body if it is also the first. Lets go of it."""
        self._spread(load, whole=not self._sent)

    async def finish(self, envelope: Piece) -> frozenset[str]:
        """Write the envelope behind every body; return the names of the targets that hold both.

        Returns as soon as the quorum holds it and the rest had their chance to follow. Raises
        QuorumLost when too few can.
        """
        for lane in self._lanes:
            lane.finish(envelope)
        while not all(lane.stored or lane.failed for lane in self._lanes):
            await self._wait(self._done)
        self._check()
        return self._done()

    async def clean_up(self) -> None:
        """Remove what was written on every target. Raises a StoreError if some of it remains."""
        ends = await asyncio.gather(
            *(lane.clean_up() for lane in self._lanes), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def _spread(self, load: Load, *, whole: bool) -> None:
        self._sent = True
        self.body_size += load.used
        for lane in self._lanes:
            lane.offer(load, whole=whole)
        load.release()

    async def _wait(self, ahead: Callable[[], frozenset[str]]) -> None:
        """Wait for a change, and let go of backups that alone kept this upload waiting too long."""
        self._check()
        self._changed.clear()
        shared, before = self._shared, time.monotonic()
        if not self._enough(ahead()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._changed.wait()
            return
        allowed = shared.settings.patience + TOLERANCE * (before - self._began) - self._waited
        try:
            async with asyncio.timeout(max(allowed, 0)):
                await self._changed.wait()
        except TimeoutError:
            keep = ahead()
            for lane in self._lanes:
                if lane.target.name not in keep:
                    lane.give_up(StoreError("the target fell behind"))
        self._waited += time.monotonic() - before

    def _idle(self) -> frozenset[str]:
        return frozenset(
            lane.target.name for lane in self._lanes if not (lane.failed or lane.behind)
        )

    def _done(self) -> frozenset[str]:
        return frozenset(lane.target.name for lane in self._lanes if lane.stored)

    def _alive(self) -> frozenset[str]:
        return frozenset([lane.target.name for lane in self._lanes if lane.error is None])

    def _enough(self, names: frozenset[str]) -> bool:
        """Tell whether these are as many as can be asked for, with the targets that are left."""
        targets = self._shared.roster().targets  # another one may be the primary by now
        if self.quorum.satisfied(targets, self._alive()):
            return self.quorum.satisfied(targets, names)
        return self._shared.settings.degraded and bool(names)

    def _check(self) -> None:
        alive, roster = self._alive(), self._shared.roster()
        if len(alive) == len(self._lanes) and roster.targets is self._sufficing:
            return  # as at the last look: all of them are left, and the same ones are asked for
        if self._shared.possible(self.quorum, alive, roster):
            self._sufficing = roster.targets if len(alive) == len(self._lanes) else None
            return
        failed = {lane.target.name: lane.error for lane in self._lanes if lane.failed}
        names = ", ".join(sorted(failed))
        if not failed:
            raise QuorumLost(f"the targets of this gateway cannot satisfy the policy {self.quorum}")
        if all(isinstance(error, StoreFull) for error in failed.values()):
            raise StoreFull(
                f"no room left on too many targets ({names}); make room, then try again"
            )
        raise QuorumLost(f"too few targets can hold the upload (failed: {names}); try again later")

    def _freed(self, load: Load) -> None:
        self._out.discard(load)
