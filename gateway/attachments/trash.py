"""The trash: attachments go there whole, come back whole, and are kept until their tenant's time is up.

Guarantees that an attachment which comes back is the one that went: every version that its tenant keeps, its
bytes, its ETag and its metadata. Nothing here touches a store or opens content; what is due to go is the
purger's.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from gateway.errors import CatalogConflict, Held, Invalid, ReferenceTaken
from gateway.model import Attachment, Precondition, Retention
from gateway.ports import Bin, Catalog, Trashed

log = structlog.get_logger()
MIN_DAYS = 30  # what is promised to everyone; a tenant may have longer, never less
MAX_DAYS = 36_500
MAX_VERSIONS = 1_000_000


class Trash:
    """The use case, over one catalog."""

    def __init__(self, catalog: Catalog, kept: Bin) -> None:
        self._catalog = catalog
        self._bin = kept

    async def put(self, tenant: str, reference: str, precondition: Precondition) -> Attachment:
        """Move an attachment to the trash. Raises NotFound and PreconditionFailed."""
        attachment = await self._catalog.trash(tenant, reference, precondition)
        log.info("attachment to the trash", tenant=tenant, attachment=attachment.id)
        return attachment

    async def page(self, tenant: str, after: str | None, limit: int) -> Sequence[Trashed]:
        """Return up to `limit` attachments of a tenant's trash, behind `after`. Raises NotFound."""
        await self._catalog.tenant(tenant)
        return await self._bin.trashed(tenant, after, limit)

    async def undelete(self, tenant: str, attachment: str) -> Attachment:
        """Bring an attachment back as it was. Raises NotFound and ReferenceTaken."""
        try:
            back = await self._bin.undelete(tenant, attachment)
        except CatalogConflict:
            raise ReferenceTaken(
                "another attachment has this id now: delete that one first"
            ) from None
        log.info("attachment back from the trash", tenant=tenant, attachment=attachment)
        return back

    async def purge(self, tenant: str, attachment: str) -> int:
        """Begin to purge an attachment in the trash at once; return how many versions it has.

        It cannot be read or brought back from here on. Raises NotFound, and Held under a legal hold.
        """
        try:
            count = await self._bin.doom_now(tenant, attachment)
        except CatalogConflict:
            raise Held("the tenant is under a legal hold: nothing of it is purged") from None
        log.warning("purge asked for", tenant=tenant, attachment=attachment, versions=count)
        return count

    async def retention(self, tenant: str) -> Retention:
        """Return how long a tenant's trash and replaced versions are kept. Raises NotFound."""
        return await self._bin.retention(tenant)

    async def retain(self, tenant: str, retention: Retention) -> None:
        """Set it. Raises NotFound and Invalid."""
        demand(retention)
        await self._bin.retain(tenant, retention)
        _tell(tenant, retention)

    async def amend(self, tenant: str, change: Callable[[Retention], Retention]) -> Retention:
        """Set what `change` makes of what is set: nobody else's change gets lost. Raises as `retain`."""

        def demanded(now: Retention) -> Retention:
            wanted = change(now)
            demand(wanted)
            return wanted

        retention = await self._bin.amend(tenant, demanded)
        _tell(tenant, retention)
        return retention


def _tell(tenant: str, retention: Retention) -> None:
    hold = retention.hold is not None and retention.hold > datetime.now(UTC)
    log.info("retention set", tenant=tenant, trash_days=retention.trash.days, hold=hold)


def demand(retention: Retention) -> None:
    """Refuse, as Invalid, what nobody can be promised, or what would keep too little."""
    if not MIN_DAYS <= retention.trash.days <= MAX_DAYS:
        raise Invalid(f"the trash is kept for {MIN_DAYS} to {MAX_DAYS} days")
    if retention.versions is not None and not 0 <= retention.versions <= MAX_VERSIONS:
        raise Invalid(f"0 to {MAX_VERSIONS} replaced versions can be kept")
    if retention.age is not None and not 0 <= retention.age.days <= MAX_DAYS:
        raise Invalid(f"replaced versions are kept for 0 to {MAX_DAYS} days")
    if retention.hold is not None and retention.hold.tzinfo is None:
        raise Invalid("a hold ends at a time with a zone, such as 2030-01-01T00:00:00+00:00")


def retained(retention: Retention) -> dict[str, int | str | None]:
    """Return a retention in days, as the API and the command tell it."""
    return {
        "trash_days": retention.trash.days,
        "keep_versions": retention.versions,
        "keep_days": None if retention.age is None else retention.age.days,
        "hold_until": None if retention.hold is None else retention.hold.isoformat(),
    }
