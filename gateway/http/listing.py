"""The route that lists a tenant's attachments, page by page."""

from typing import Any

from aiohttp import web

from gateway.attachments.listing import Row
from gateway.errors import Invalid
from gateway.http.conditions import etag
from gateway.http.entry import enter
from gateway.http.paging import FRESH, after, cursor_of, limit_of
from gateway.http.requests import request_id, tenant_of
from gateway.http.services import services
from gateway.model import Right


async def listed(request: web.Request) -> web.StreamResponse:
    """List a tenant's attachments in code point order of their ids."""
    serving, tenant = services(request), tenant_of(request)
    await enter(request, Right.READ, tenant)
    page = await serving.listing.page(
        tenant,
        prefix=request.query.get("prefix", ""),
        after=after(request),
        limit=limit_of(request),
        names=names_of(request),
        request_id=request_id(request),
    )
    return web.json_response(
        {"attachments": [described(row) for row in page.rows], "cursor": cursor_of(page.after)},
        headers=FRESH,
    )


def names_of(request: web.Request) -> bool:
    """Tell whether `?names=` wants what only keys can open. Raises Invalid."""
    names = request.query.get("names", "true")
    if names not in {"true", "false"}:
        raise Invalid("names is true or false")
    return names == "true"


def described(row: Row) -> dict[str, Any]:
    """Return one attachment of a listing as JSON has it."""
    version = row.found.version
    shown: dict[str, Any] = {
        "attachment": row.found.attachment.reference,
        "version": version.id,
        "size": version.size,
        "etag": etag(version),
        "created": version.created.isoformat(),
    }
    if row.attributes is not None:
        shown["name"] = row.attributes.name
        shown["content_type"] = row.attributes.content_type
        shown["metadata"] = dict(row.attributes.user)
    if row.error is not None:
        shown["error"] = row.error
    return shown
