"""Takes leave of a target that is gone for good, so that nothing waits for it any more.

Guarantees that nothing is forgotten of a target that is configured, or is the primary by a decision, or that
somebody works on; nor of a version whose last known copy is there, unless that loss was accepted in so many
words; and that what was done is on record, with its reason. Killed anywhere it is finished by a repetition.
It asks no store, and deletes nothing but rows of the catalog: what the target holds, it holds.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from gateway.duties.record import on_record
from gateway.errors import GatewayError
from gateway.model import Version, now
from gateway.ports import Placements, Runs, RunState, Trace, Traces

KIND: Final = "forget-target"
PAGE: Final = 500
LIVELY: Final = timedelta(minutes=5)  # a row of work that was touched since is somebody's

log = structlog.get_logger()


class StillNeeded(GatewayError):
    """The target is not to be forgotten; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was dropped, what there still is, and how many versions are lost by it."""

    gone: Trace
    left: Trace
    lost: int = 0


class Departure:
    """The use case, over one catalog. `configured` are the targets of the settings, by name."""

    def __init__(
        self,
        traces: Traces,
        placements: Placements,
        runs: Runs,
        configured: Collection[str],
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._traces = traces
        self._placements = placements
        self._runs = runs
        self._configured = frozenset(configured)
        self._clock = clock

    async def known(self) -> Sequence[tuple[str, bool]]:
        """Name every target that is configured or that the catalog has rows of; tell which are configured."""
        names = self._configured.union(await self._traces.targets())
        return [(name, name in self._configured) for name in sorted(names)]

    async def look(self, target: str) -> tuple[Trace, Sequence[Version]]:
        """Return what there is about a target, and the versions whose last known copy is there.

        Raises StillNeeded for one that cannot be forgotten whatever is accepted, and CatalogErrors.
        """
        if target in self._configured:
            raise StillNeeded(
                f"{target} is configured: take it out of the settings of every process first"
            )
        if (await self._placements.placement()).primary == target:
            raise StillNeeded(
                f"{target} is the primary: `sealgate failover promote` another one first"
            )
        since = self._clock() - LIVELY
        for run in await self._runs.latest(RunState.RUNNING):
            if run.subject == target and run.kind != KIND and run.touched > since:
                raise StillNeeded(
                    f"somebody works on {target} ({run.kind}): start every worker and gateway again with"
                    " settings that lack it, and wait five minutes"
                )
        last: list[Version] = []
        while page := await self._traces.last(
            target, self._configured, after=last[-1].id if last else None, limit=PAGE
        ):
            last += page
        return await self._traces.of(target), last

    async def forget(
        self,
        target: str,
        *,
        reason: str,
        accept_loss: bool = False,
        told: Callable[[Trace], None] = lambda _: None,
    ) -> Forgotten:
        """Drop what the catalog has about a target. `told` is called with what each step dropped.

        Raises StillNeeded, AlreadyRunning and CatalogErrors.
        """
        trace, last = await self.look(target)
        if last and not accept_loss:
            raise StillNeeded(
                f"{target} may have the last copies of {len(last)} versions: bring it back, let repair copy"
                " them, or accept that they are lost (--accept-loss)"
            )
        if trace.empty:
            return Forgotten(trace, trace)
        async with on_record(self._runs, KIND, target) as entry:
            gone = Trace(target)
            while not (
                step := await self._traces.forget(target, self._configured, PAGE, lost=accept_loss)
            ).empty:
                gone = _sum(gone, step)
                told(step)
            left = await self._traces.of(target)
            entry.outcome = {
                "reason": reason,
                "replicas": gone.replicas,
                "stale": gone.stale,
                "leftovers": gone.leftovers,
                "lost": len(last),
                "left": left.replicas + left.stale + left.leftovers,
            }
            entry.good = left.empty
        log.warning("target forgotten", target=target, **entry.outcome)
        return Forgotten(gone, left, len(last))


def _sum(one: Trace, other: Trace) -> Trace:
    return Trace(
        one.target,
        one.replicas + other.replicas,
        one.stale + other.stale,
        one.leftovers + other.leftovers,
    )
