"""The routes of many: the listing of a tenant's attachments, tenants, and tokens."""

import base64
import binascii
import json
from datetime import timedelta
from typing import Any

from aiohttp import web

from gateway.errors import Invalid
from gateway.http.conditions import etag
from gateway.http.requests import authorize, request_id, tenant_of
from gateway.http.services import services
from gateway.listing import Row
from gateway.model import Right, Tenant, Token

_MAX_PAGE = 1000
_MAX_DAYS = 3650
_FRESH = {"Cache-Control": "no-store"}


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= _MAX_PAGE:
        raise Invalid(f"limit is a number from 1 to {_MAX_PAGE}")
    return int(text)


def _cursor(text: str) -> str:
    """Return the opaque form of the reference to go on after."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(request: web.Request) -> str | None:
    cursor = request.query.get("cursor")
    if cursor is None:
        return None
    try:
        return base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Invalid("the cursor is not one that a listing gave") from None


async def attachments(request: web.Request) -> web.StreamResponse:
    """List a tenant's attachments, page by page."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.READ, tenant)
    names = request.query.get("names", "true")
    if names not in {"true", "false"}:
        raise Invalid("names is true or false")
    page = await serving.listing.page(
        tenant,
        prefix=request.query.get("prefix", ""),
        after=_after(request),
        limit=_limit(request),
        names=names == "true",
        request_id=request_id(request),
    )
    return web.json_response(
        {
            "attachments": [_row(row) for row in page.rows],
            "cursor": _cursor(page.after) if page.after is not None else None,
        },
        headers=_FRESH,
    )


def _row(row: Row) -> dict[str, Any]:
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


async def _json(request: web.Request, allowed: frozenset[str]) -> dict[str, Any]:
    """Return a small JSON object with no other fields than those allowed. Raises Invalid."""
    if not request.body_exists:
        return {}
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise Invalid("the body is not JSON") from None
    if not isinstance(body, dict) or not body.keys() <= allowed:
        raise Invalid(f"the body is a JSON object with fields of: {', '.join(sorted(allowed))}")
    return body


async def create_tenant(request: web.Request) -> web.StreamResponse:
    """Create a tenant under a fresh id."""
    serving = services(request)
    await authorize(request, serving.tokens, Right.ADMIN, None)
    body = await _json(request, frozenset({"tier"}))
    tier = body.get("tier", "standard")
    if not isinstance(tier, str):
        raise Invalid("tier is a text")
    tenant = await serving.tenants.create(tier=tier, request_id=request_id(request))
    return web.json_response(
        _tenant(tenant), status=201, headers={**_FRESH, "Location": f"/v1/tenants/{tenant.id}"}
    )


async def list_tenants(request: web.Request) -> web.StreamResponse:
    """List tenants in order of id."""
    serving, limit = services(request), _limit(request)
    await authorize(request, serving.tokens, Right.ADMIN, None)
    found = await serving.tenants.page(_after(request), limit + 1)
    more = found[limit - 1].id if len(found) > limit else None
    return web.json_response(
        {
            "tenants": [_tenant(tenant) for tenant in found[:limit]],
            "cursor": _cursor(more) if more is not None else None,
        },
        headers=_FRESH,
    )


async def show_tenant(request: web.Request) -> web.StreamResponse:
    """Describe a tenant."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    return web.json_response(_tenant(await serving.tenants.get(tenant)), headers=_FRESH)


def _tenant(tenant: Tenant) -> dict[str, Any]:
    return {"tenant": tenant.id, "tier": tenant.tier, "created": tenant.created.isoformat()}


async def create_token(request: web.Request) -> web.StreamResponse:
    """Create a token for a tenant; its text is shown this once."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    body = await _json(request, frozenset({"rights", "days"}))
    rights, days = body.get("rights"), body.get("days", 90)
    known = {right.value for right in Right}
    if not isinstance(rights, list) or not rights or not all(r in known for r in rights):
        raise Invalid(f"rights is a list of: {', '.join(sorted(known))}")
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= _MAX_DAYS:
        raise Invalid(f"days is a number from 1 to {_MAX_DAYS}")
    grant = await serving.tokens.create(
        tenant, (Right(right) for right in rights), lifetime=timedelta(days=days)
    )
    return web.json_response(
        {**_token(grant.token), "text": grant.text}, status=201, headers=_FRESH
    )


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """List a tenant's tokens, without what would let anyone use them."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    found = await serving.tokens.of(tenant)
    return web.json_response({"tokens": [_token(token) for token in found]}, headers=_FRESH)


async def revoke_token(request: web.Request) -> web.StreamResponse:
    """Revoke one of a tenant's tokens."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    await serving.tokens.revoke(request.match_info["token"], tenant)
    return web.Response(status=204)


def _token(token: Token) -> dict[str, Any]:
    return {
        "token": token.id,
        "tenant": token.tenant,
        "rights": sorted(right.value for right in token.rights),
        "created": token.created.isoformat(),
        "expires": token.expires.isoformat() if token.expires else None,
    }
