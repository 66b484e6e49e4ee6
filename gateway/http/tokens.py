"""The routes of a tenant's tokens, for its administrators."""

import re
from datetime import timedelta

from aiohttp import web

from gateway.attachments.tokens import shown
from gateway.errors import Invalid, NotFound
from gateway.http.paging import FRESH, json_of
from gateway.http.requests import authorize, tenant_of
from gateway.http.services import services
from gateway.model import Right

DEFAULT_DAYS, MAX_DAYS = 90, 3650
_ID = re.compile(r"[0-9a-f]{16}")


async def create(request: web.Request) -> web.StreamResponse:
    """Create a token for a tenant; its text is shown this once."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    body = await json_of(request, frozenset({"rights", "days"}))
    rights, days = body.get("rights"), body.get("days", DEFAULT_DAYS)
    known = [right.value for right in Right]
    if not isinstance(rights, list) or not rights or any(right not in known for right in rights):
        raise Invalid(f"rights is a list of: {', '.join(sorted(known))}")
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
        raise Invalid(f"days is a number from 1 to {MAX_DAYS}")
    grant = await serving.tokens.create(
        tenant, (Right(right) for right in rights), lifetime=timedelta(days=days)
    )
    created = {**shown(grant.token), "text": grant.text}
    return web.json_response(created, status=201, headers=FRESH)


async def listed(request: web.Request) -> web.StreamResponse:
    """List a tenant's tokens, without what would let anyone use them."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    found = await serving.tokens.of((await serving.tenants.get(tenant)).id)
    return web.json_response({"tokens": [shown(token) for token in found]}, headers=FRESH)


async def revoke(request: web.Request) -> web.StreamResponse:
    """Revoke one of a tenant's tokens, from the next request on."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    token = request.match_info["token"]
    if not _ID.fullmatch(token):
        raise NotFound("no such token")
    await serving.tokens.revoke(token, tenant)
    return web.Response(status=204)
