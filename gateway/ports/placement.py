"""Which target is the primary now: as configured, or as an operator decided after a loss."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Placement:
    """The primary by name (None: the configured one). Every decision has a higher epoch."""

    epoch: int
    primary: str | None
    since: datetime | None


class Placements(Protocol):
    """The decision on record. Raises CatalogErrors."""

    async def placement(self) -> Placement:
        """Return what holds now; epoch 0 before anybody decided."""

    async def promote(self, primary: str | None, *, epoch: int) -> Placement:
        """Decide anew, if `epoch` is still the current one. Raises CatalogConflict if it is not.

        From then on no upload commits that was acknowledged by an older epoch's quorum.
        """
