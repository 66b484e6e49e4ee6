"""A page of attachments: sizes and ETags from the catalog, names and types by one batch unwrap.

Guarantees one catalog query and at most one key service request a page, and no store request. An item
whose name cannot be opened is listed all the same, and says so.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from envelope.envelope import Attributes, Envelope
from gateway.attachments.opened import attributes_of, envelope_of
from gateway.errors import Unreadable
from gateway.keys.data_keys import KeyService, wrapped_key
from gateway.model import Found
from gateway.ports import Catalog
from keyservice.wire import KeyServiceError

T = TypeVar("T")
_YIELD_EVERY = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One attachment of a listing; `attributes` is None when not asked for or not readable."""

    found: Found
    attributes: Attributes | None = field(repr=False)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order of reference, and the reference to go on after, if there is more."""

    rows: Sequence[Row]
    after: str | None = field(repr=False)


class Listing:
    """The use case, over one catalog and one key service."""

    def __init__(self, catalog: Catalog, keys: KeyService) -> None:
        self._catalog = catalog
        self._keys = keys

    async def page(
        self,
        tenant: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
        names: bool = True,
        request_id: str = "",
    ) -> Page:
        """Return up to `limit` attachments after `after`. Raises CatalogErrors and KeyServiceErrors."""
        await self._catalog.tenant(tenant)
        found = await self._catalog.list(tenant, prefix, after, limit + 1)
        more = found[limit - 1].attachment.reference if len(found) > limit else None
        found = found[:limit]
        if not names or not found:
            return Page([Row(item, None) for item in found], more)
        return Page(await self.named(tenant, found, request_id=request_id), more)

    async def named(self, tenant: str, found: Sequence[Found], *, request_id: str) -> list[Row]:
        """Open the attributes of attachments of one tenant, by one request. Raises KeyServiceErrors."""
        envelopes = [_envelope(item) async for item in _in_turns(found)]
        keys = await self._keys.unwrap(
            tenant,
            [wrapped_key(envelope) for envelope in envelopes if envelope is not None],
            reason="listing",
            request_id=request_id,
        )
        opened = iter(keys)
        return [
            Row(item, None, "damaged") if envelope is None else _row(item, envelope, next(opened))
            async for item, envelope in _in_turns(list(zip(found, envelopes, strict=True)))
        ]


async def _in_turns(items: Sequence[T]) -> AsyncIterator[T]:
    """Yield the items, letting others run now and then: a page may hold a thousand envelopes."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _YIELD_EVERY == 0:
            await asyncio.sleep(0)


def _envelope(found: Found) -> Envelope | None:
    try:
        return envelope_of(found)
    except Unreadable:
        return None


def _row(found: Found, envelope: Envelope, dek: bytes | KeyServiceError) -> Row:
    if isinstance(dek, KeyServiceError):
        return Row(found, None, dek.code)
    try:
        return Row(found, attributes_of(found, envelope, dek))
    except Unreadable:
        return Row(found, None, "damaged")
