"""Which tenants' keys are to be destroyed, and which are: what the key service told, by tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Shred:
    """How it stands: until when an order waits, and when the catalog learned that it was carried out."""

    due: datetime | None = None
    dead: datetime | None = None


class Shreds(Protocol):
    """Orders and ends. Every method is one transaction. Raises CatalogErrors.

    It remembers for those who work and answer here. What counts is what the key service says.
    """

    async def order(self, tenant: str, due: datetime | None) -> None:
        """Remember that an order waits until `due`, or that there is none. Raises NotFound."""

    async def bury(self, tenants: Sequence[str]) -> int:
        """Remember that these are dead for good; return how many were not known to be.

        Those that the catalog does not have are passed over. What a dead tenant has is due to be purged
        (`Bin.doom`), whatever its retention, unless a hold is on it.
        """

    async def shred(self, tenant: str) -> Shred:
        """Tell how a tenant stands. Raises NotFound."""

    async def held(self, tenant: str) -> datetime | None:
        """Tell until when a hold is on a tenant, if it still is by any of the catalog's clocks.

        A clock that is ahead ends none. Raises NotFound.
        """

    async def due(
        self, at: datetime, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """Page, in order of id, through living tenants whose order waits no longer than `at`.

        Never one under a hold, whenever that was put there.
        """
