"""Another primary: promotes a backup when the primary is lost, and goes back when it has caught up.

Guarantees that a decision is only made knowing what it costs: the versions that no target which answers
holds are named before, and again after it, when no upload can add to them any more. Going back waits
until the configured primary holds everything, so it loses nothing. Copies nothing itself: repair does.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gateway.errors import GatewayError, StoreError
from gateway.model import Version
from gateway.ports import Lag, Placement, Placements, Replicas
from gateway.targets.placing import placed
from gateway.targets.quorum import Role, Target

_PAGE = 1000


class Refused(GatewayError):
    """The decision would cost more than was accepted; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One target: its role now, whether it answers, and how far it is behind."""

    target: Target
    answers: bool
    lag: Lag


@dataclass(frozen=True, slots=True)
class Outlook:
    """What holds now. `at_risk` are the versions that no target which answers is known to hold."""

    placement: Placement
    standings: tuple[Standing, ...]
    at_risk: tuple[Version, ...] = field(repr=False)

    @property
    def primary(self) -> str | None:
        """The primary by name."""
        return next((s.target.name for s in self.standings if s.target.role is Role.PRIMARY), None)

    @property
    def up(self) -> frozenset[str]:
        """The targets that answer, by name."""
        return frozenset(s.target.name for s in self.standings if s.answers)

    def of(self, name: str) -> Standing:
        """Return one target's. Raises Refused for one that is not configured."""
        for standing in self.standings:
            if standing.target.name == name:
                return standing
        names = ", ".join(sorted(standing.target.name for standing in self.standings))
        raise Refused(f"there is no target {name}: name one of {names}")


class Failover:
    """The use case, over the decision and the replicas in the catalog, and the configured targets.

    `patience` is how many seconds a target may take to show that it answers.
    """

    def __init__(
        self,
        placements: Placements,
        replicas: Replicas,
        targets: Sequence[Target],
        *,
        patience: float = 10.0,
    ) -> None:
        self._placements = placements
        self._replicas = replicas
        self._targets = tuple(targets)
        self._patience = patience

    @property
    def configured(self) -> str:
        """The primary of the settings."""
        return next(target.name for target in self._targets if target.role is Role.PRIMARY)

    async def outlook(self) -> Outlook:
        """Ask every target and the catalog. Raises CatalogErrors."""
        answers = await asyncio.gather(*(self._answers(target) for target in self._targets))
        named = zip(self._targets, answers, strict=True)
        return await self._outlook({target.name for target, good in named if good})

    async def _outlook(self, up: Collection[str]) -> Outlook:
        """Return what the catalog says, given the targets that answer."""
        placement = await self._placements.placement()
        targets = placed(self._targets, placement)
        lags = await self._replicas.lag([target.name for target in targets])
        named = zip(targets, lags, strict=True)
        return Outlook(
            placement,
            tuple(Standing(target, target.name in up, lag) for target, lag in named),
            tuple(await self._stranded(up)) if len(up) < len(targets) else (),
        )

    async def promote(self, name: str, *, accept_loss: bool = False) -> Outlook:
        """Make a target the primary; return what holds then.

        Raises Refused when it does not answer, is the primary already, or when versions are at risk and
        nobody accepted that; CatalogConflict when somebody else decided meanwhile.
        """
        before = await self.outlook()
        if before.primary == name:
            raise Refused(f"{name} is the primary already")
        if not before.of(name).answers:
            raise Refused(f"{name} does not answer: promote a target that does")
        if before.at_risk and not accept_loss:
            raise Refused(
                f"{len(before.at_risk)} versions are held only by targets that do not answer: bring one"
                " of these back, or accept that they cannot be read until then (--accept-loss)"
            )
        await self._placements.promote(
            None if name == self.configured else name, epoch=before.placement.epoch
        )
        return await self._outlook(before.up)

    async def demote(self) -> Outlook:
        """Go back to the configured primary; return what holds then.

        Raises Refused unless it answers and holds everything, CatalogConflict when somebody else decided
        meanwhile.
        """
        before = await self.outlook()
        standing = before.of(self.configured)
        if before.primary == self.configured:
            raise Refused(f"{self.configured} is the primary already")
        if not standing.answers:
            raise Refused(f"{self.configured} does not answer: bring it back first")
        if standing.lag.objects:
            raise Refused(
                f"{self.configured} still misses {standing.lag.objects} versions"
                f" ({standing.lag.bytes} bytes): wait until repair has copied them (--wait)"
            )
        await self._placements.promote(None, epoch=before.placement.epoch)
        return await self._outlook(before.up)

    async def _answers(self, target: Target) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await target.store.check()
        except (StoreError, TimeoutError):
            return False
        return True

    async def _stranded(self, up: Collection[str]) -> list[Version]:
        found: list[Version] = []
        while page := await self._replicas.stranded(
            up, after=found[-1].id if found else None, limit=_PAGE
        ):
            found += page
        return found
