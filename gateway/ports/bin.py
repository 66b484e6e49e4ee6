"""The trash as the catalog keeps it: what may come back, and what is due to go for good."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from gateway.model import Attachment, Retention, Version


@dataclass(frozen=True, slots=True)
class Trashed:
    """An attachment in the trash: its last version, and when it is purged at the earliest."""

    attachment: Attachment
    version: Version = field(repr=False)  # without inline body
    due: datetime


@dataclass(frozen=True, slots=True)
class Doomed:
    """A version that is being purged, and the targets on which its objects may still be."""

    version: Version = field(repr=False)
    targets: frozenset[str]


class Bin(Protocol):
    """Listing, undelete and purge. Every method is one transaction, by the catalog's clock.

    Two clocks must agree before anything is purged: the database's time, and the time that `tick`
    counted, which no jump of a clock moves. Raises CatalogErrors and what each method names.
    """

    async def retention(self, tenant: str) -> Retention:
        """Return a tenant's retention. Raises NotFound."""

    async def retain(self, tenant: str, retention: Retention) -> None:
        """Set it. Raises NotFound.

        A hold that is the same as before does not become shorter, whatever the clock says now.
        """

    async def amend(self, tenant: str, change: Callable[[Retention], Retention]) -> Retention:
        """Set what `change` makes of what is set, and return it; nobody else sets it in between.

        `change` may be called again, and what it raises undoes everything. Raises NotFound.
        """

    async def trashed(
        self, tenant: str, after: str | None = None, limit: int = 100
    ) -> Sequence[Trashed]:
        """Page through a tenant's trash in order of attachment id, behind `after`."""

    async def undelete(self, tenant: str, attachment: str) -> Attachment:
        """Bring an attachment back as it was.

        Raises NotFound when it is not in the trash (or its purge has begun), CatalogConflict when its
        reference was given to another one meanwhile.
        """

    async def tick(self, elapsed: timedelta, ticker: str) -> None:
        """Count time: `elapsed` is what the caller's monotonic clock says since it last tried to tick.

        `ticker` is the id of the caller, whose calls come one after another. What one ticker says
        counts at a time, so that no time counts twice, and never more than the database's clock moved on
        since; another takes over, and counts from then on, once that one was silent for minutes.
        """

    async def doom(self, limit: int) -> int:
        """Begin the purge of up to `limit` versions whose time has come; return how many.

        Those of attachments longer in the trash than their tenant's retention, and superseded ones that
        the retention no longer keeps. Never under a hold. From here on they cannot be read, listed or
        undeleted, and their replicas are `deleting`.
        """

    async def doom_now(self, tenant: str, attachment: str) -> int:
        """Begin the purge of one attachment in the trash at once; return the number of versions.

        Raises NotFound, and CatalogConflict under a hold. Safe to repeat.
        """

    async def doomed(self, limit: int, after: str | None = None) -> Sequence[Doomed]:
        """Page through versions that are being purged, in order of id; none of them under a hold."""

    async def gone(self, version: str, target: str) -> None:
        """Record that nothing of a version is left on a target. Idempotent."""

    async def purge(self, version: str) -> bool:
        """Forget a version that no target holds any more, and its attachment with the last one.

        False while a target still may hold it, and of one that is not being purged. Idempotent.
        """
