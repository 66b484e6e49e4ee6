"""The targets in the roles that they have now: as configured, or as a failover decided.

Guarantees that the roles and the epoch that belongs to them are always taken together, and that what the
catalog said last holds, even where it was brought back from a copy and says less than before. A gateway
learns of a decision when it refreshes, every few seconds, or when a commit is refused; until then it goes
on by what it knows, and the catalog sees to it that nothing is acknowledged by another quorum than that of
its decision.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.errors import CatalogError
from gateway.ports import Placement, Placements
from gateway.targets.quorum import Role, Target

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Roster:
    """The targets, the primary first, and the epoch of the decision that gave them their roles."""

    epoch: int
    targets: tuple[Target, ...]

    @property
    def primary(self) -> str | None:
        """The primary by name; None when the decision names a target that is not configured here."""
        return next((t.name for t in self.targets if t.role is Role.PRIMARY), None)


class Placing:
    """What holds now, over the decision in the catalog. `changed` is called with each new roster."""

    def __init__(
        self,
        placements: Placements,
        targets: Sequence[Target],
        *,
        changed: Callable[[Roster], None] = lambda _: None,
    ) -> None:
        self.configured = tuple(targets)
        self.now = Roster(0, self.configured)
        self._placements = placements
        self._known = Placement(0, None, None)
        self._asking = asyncio.Lock()  # one question at a time, so that answers come in order
        self._changed = changed

    async def refresh(self) -> Roster:
        """Ask the catalog what holds now, and return it. Raises CatalogErrors."""
        async with self._asking:
            placement = await self._placements.placement()
            if placement != self._known:
                self._known = placement
                self.now = Roster(placement.epoch, placed(self.configured, placement))
                log.warning("primary decided", epoch=self.now.epoch, primary=self.now.primary)
                self._changed(self.now)
        return self.now

    async def run(self, every: float) -> None:
        """Refresh until cancelled. What the catalog does not answer is asked again."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.refresh()
            except CatalogError as error:
                log.warning("placement not known", reason=type(error).__name__)


def placed(configured: Sequence[Target], placement: Placement) -> tuple[Target, ...]:
    """Return the targets in the roles of a placement, the primary first.

    A decision for a target that is not configured leaves no primary: no upload that needs one passes.
    """
    if placement.primary is None:
        return tuple(configured)
    roles = [
        replace(each, role=Role.PRIMARY if each.name == placement.primary else Role.BACKUP)
        for each in configured
    ]
    return tuple(sorted(roles, key=lambda target: target.role is not Role.PRIMARY))
