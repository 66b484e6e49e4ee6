"""The routes of a tenant's trash, and of how long it is kept."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from gateway.attachments.listing import Row
from gateway.attachments.trash import retained
from gateway.errors import Invalid, NotFound
from gateway.http.conditions import etag
from gateway.http.entry import enter
from gateway.http.listing import described, names_of
from gateway.http.paging import FRESH, after, cursor_of, json_of, limit_of
from gateway.http.requests import authorize, is_id, request_id, tenant_of
from gateway.http.services import services
from gateway.http.values import moment, number
from gateway.model import Found, Retention, Right
from gateway.ports import Trashed


async def listed(request: web.Request) -> web.StreamResponse:
    """List what is in a tenant's trash, and until when it can come back."""
    serving, tenant = services(request), tenant_of(request)
    await enter(request, Right.READ, tenant)
    limit, place = limit_of(request), after(request)
    if place is not None and not is_id(place):
        raise Invalid("the cursor is not one that this listing gave")
    found = await serving.trash.page(tenant, place, limit + 1)
    more = found[limit - 1].attachment.id if len(found) > limit else None
    kept = found[:limit]
    rows = [Row(_found(item), None) for item in kept]
    if names_of(request) and rows:
        rows = await serving.listing.named(
            tenant, [row.found for row in rows], request_id=request_id(request)
        )
    shown = [_row(item, row) for item, row in zip(kept, rows, strict=True)]
    return web.json_response({"trash": shown, "cursor": cursor_of(more)}, headers=FRESH)


async def undelete(request: web.Request) -> web.StreamResponse:
    """Bring an attachment back from the trash as it was."""
    serving, tenant = services(request), tenant_of(request)
    await enter(request, Right.DELETE, tenant)
    back = await serving.trash.undelete(tenant, trashed_of(request))
    found = await serving.catalog.find(tenant, back.reference)
    shown = {
        "attachment": back.reference,
        "version": found.version.id,
        "size": found.version.size,
        "etag": etag(found.version),
        "created": found.version.created.isoformat(),
    }
    return web.json_response(shown, headers=FRESH)


async def purge(request: web.Request) -> web.StreamResponse:
    """Purge an attachment in the trash now, for good."""
    serving, tenant = services(request), tenant_of(request)
    await enter(request, Right.PURGE, tenant)
    await serving.trash.purge(tenant, trashed_of(request))
    return web.Response(status=202)


async def retention(request: web.Request) -> web.StreamResponse:
    """Tell how long a tenant's trash and replaced versions are kept."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    return web.json_response(retained(await serving.trash.retention(tenant)), headers=FRESH)


async def retain(request: web.Request) -> web.StreamResponse:
    """Set how long a tenant's trash and replaced versions are kept."""
    serving, tenant = services(request), tenant_of(request)
    # A tenant's own administrator must not shorten what an operator set for the tenant.
    await authorize(request, serving.tokens, Right.ADMIN, None)
    known = frozenset({"trash_days", "keep_versions", "keep_days", "hold_until"})
    body = await json_of(request, known)
    days = number(body, "trash_days")
    age = number(body, "keep_days")
    wanted = Retention(
        trash=Retention().trash if days is None else timedelta(days=days),
        versions=number(body, "keep_versions"),
        age=None if age is None else timedelta(days=age),
        hold=moment(body, "hold_until"),
    )
    await serving.trash.retain(tenant, wanted)
    return web.json_response(retained(wanted), headers=FRESH)


def trashed_of(request: web.Request) -> str:
    """Return the id in the trash that the path names. Raises NotFound for what cannot be one."""
    trashed = request.match_info["trashed"]
    if not is_id(trashed):
        raise NotFound("nothing in the trash has this id")
    return trashed


def _found(item: Trashed) -> Found:
    return Found(item.attachment, item.version, {}, current=True)


def _row(item: Trashed, row: Row) -> dict[str, Any]:
    deleted = item.attachment.deleted
    return {
        "trashed": item.attachment.id,
        **described(row),
        "deleted": None if deleted is None else deleted.isoformat(),
        "kept_until": item.due.isoformat(),
    }
