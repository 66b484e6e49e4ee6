"""Deleting: an attachment goes to the trash, out of sight, and keeps every byte and version.

Does not purge. Nothing here touches a store or a key.
"""

import structlog

from gateway.model import Attachment, Precondition
from gateway.ports import Catalog

log = structlog.get_logger()


class Trash:
    """The use case, over one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def put(self, tenant: str, reference: str, precondition: Precondition) -> Attachment:
        """Move an attachment to the trash. Raises NotFound and PreconditionFailed."""
        attachment = await self._catalog.trash(tenant, reference, precondition)
        log.info("attachment to the trash", tenant=tenant, attachment=attachment.id)
        return attachment
