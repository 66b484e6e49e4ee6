"""The routes of tenants, for administrators of all of them."""

from aiohttp import web

from gateway.attachments.tenants import shown
from gateway.errors import Invalid
from gateway.http.paging import FRESH, after, cursor_of, json_of, limit_of
from gateway.http.requests import authorize, is_id, request_id
from gateway.http.services import services
from gateway.model import Right


async def create(request: web.Request) -> web.StreamResponse:
    """Create a tenant under a fresh id."""
    serving = services(request)
    await authorize(request, serving.tokens, Right.ADMIN, None)
    body = await json_of(request, frozenset({"tier"}))
    tier = body.get("tier", "standard")
    if not isinstance(tier, str):
        raise Invalid("tier is a text")
    tenant = await serving.tenants.create(tier=tier, request_id=request_id(request))
    place = {"Location": f"/v1/tenants/{tenant.id}"}
    return web.json_response(shown(tenant), status=201, headers={**FRESH, **place})


async def listed(request: web.Request) -> web.StreamResponse:
    """List tenants in order of id."""
    serving = services(request)
    await authorize(request, serving.tokens, Right.ADMIN, None)
    limit, place = limit_of(request), after(request)
    if place is not None and not is_id(place):
        raise Invalid("the cursor is not one that this listing gave")
    found = await serving.tenants.page(place, limit + 1)
    more = found[limit - 1].id if len(found) > limit else None
    return web.json_response(
        {"tenants": [shown(tenant) for tenant in found[:limit]], "cursor": cursor_of(more)},
        headers=FRESH,
    )
