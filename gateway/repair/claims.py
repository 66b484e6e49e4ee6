"""The gaps that this process has leased, for as long as somebody works on them.

Guarantees that a gap is worked on only while it is certainly ours: leases are renewed as long as the
catalog answers, and whoever works on one that ran out, or that somebody else has, is cut. Claims mostly
the newest versions, since they have the fewest copies, and now and then the oldest, so that none waits
for ever. What is not done when the block ends is given back.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog

from gateway.errors import CatalogError, GatewayError
from gateway.ports import Gap, Replicas

OLDEST = 4  # every so many claims ask for the oldest gaps
MARGIN = 0.9  # of a lease: the rest is for clocks that do not run alike
BEATS = 4  # in a lease
PATIENCE = 5.0  # seconds for giving gaps back

log = structlog.get_logger()


class LeaseLost(Exception):
    """The gap is no longer ours."""


class Lease:
    """A gap as the catalog knows it now. `ends` is on the event loop's clock."""

    def __init__(self, gap: Gap, ends: float) -> None:
        self.gap = gap
        self._ends = ends
        self._scope: asyncio.Timeout | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return (self.gap.version.id, self.gap.target)

    @property
    def over(self) -> bool:
        """Whether it has run out."""
        return asyncio.get_running_loop().time() >= self._ends

    def renew(self, gap: Gap | None, ends: float) -> None:
        """Go on until `ends`, or no longer if there is no gap to hold."""
        self.gap = gap or self.gap
        self._ends = ends if gap else 0.0
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._ends)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Cut the block when the lease is over. Raises LeaseLost then."""
        try:
            async with asyncio.timeout_at(self._ends) as self._scope:
                yield
        except TimeoutError:
            raise LeaseLost from None
        finally:
            self._scope = None


class Claims:
    """The leases of one run on one target, as a context. `batch` is how many are claimed at once."""

    def __init__(
        self,
        replicas: Replicas,
        target: str,
        *,
        lease: float,
        batch: int,
        tenant: str | None = None,
    ) -> None:
        self._replicas = replicas
        self._target = target
        self._lease = lease
        self._batch = batch
        self._tenant = tenant
        self._waiting: deque[Lease] = deque()
        self._out: dict[tuple[str, str], Lease] = {}  # those that wait, too
        self._claims = 0
        self._dry = False  # whether all that was due has been claimed
        self._turn = asyncio.Lock()  # of those who want the next one
        self._telling = asyncio.Lock()  # a gap is told of by the moment that it was last renewed to
        self._beating = AsyncExitStack()

    async def __aenter__(self) -> Self:
        tasks = await self._beating.enter_async_context(asyncio.TaskGroup())
        beat = tasks.create_task(self._beat())
        self._beating.callback(beat.cancel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._beating.aclose()
        if self._out:
            with suppress(CatalogError, TimeoutError):  # they run out by themselves
                async with asyncio.timeout(PATIENCE):
                    await self._replicas.release([lease.gap for lease in self._out.values()])

    async def next(self) -> Lease | None:
        """Return the next gap to work on, None once all that was due is claimed. Raises CatalogErrors."""
        async with self._turn:
            while True:
                if not self._waiting and not self._dry:
                    await self._claim()
                if not self._waiting:
                    return None
                lease = self._waiting.popleft()
                if not lease.over:
                    return lease
                self._out.pop(lease.key, None)

    async def filled(self, lease: Lease, kek: str) -> bool:
        """Record it as whole, with an envelope under `kek`. See the port."""
        async with self._telling:
            self._out.pop(lease.key, None)
            return await self._replicas.filled(lease.gap, kek)

    async def failed(self, lease: Lease, retry: float) -> bool:
        """Give it back, to be tried again in so many seconds. See the port."""
        async with self._telling:
            self._out.pop(lease.key, None)
            return await self._replicas.failed(lease.gap, timedelta(seconds=retry))

    def drop(self, lease: Lease) -> None:
        """Forget one that was lost."""
        self._out.pop(lease.key, None)

    async def _claim(self) -> None:
        self._claims += 1
        ends = self._end()
        gaps = await self._replicas.claim(
            [self._target],
            lease=timedelta(seconds=self._lease),
            limit=self._batch,
            newest=self._claims % OLDEST != 0,
            tenant=self._tenant,
        )
        self._dry = len(gaps) < self._batch
        for gap in gaps:
            lease = Lease(gap, ends)
            self._waiting.append(lease)
            self._out[lease.key] = lease

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease / BEATS)
            async with self._telling:
                if self._out:
                    await self._renew(list(self._out.values()))

    async def _renew(self, leases: list[Lease]) -> None:
        ends = self._end()
        try:
            gaps = await self._replicas.extend(
                [lease.gap for lease in leases], timedelta(seconds=self._lease)
            )
        except GatewayError as error:
            log.warning("leases were not renewed", reason=type(error).__name__)
            return
        kept = {(gap.version.id, gap.target): gap for gap in gaps}
        for lease in leases:
            lease.renew(kept.get(lease.key), ends)

    def _end(self) -> float:
        return asyncio.get_running_loop().time() + self._lease * MARGIN
