"""The door of every route that tells or changes what a tenant stores.

Guarantees that nobody gets in without the right, and nobody at all while the tenant's keys may not be used:
suspended, by us or by the key's owner, ordered to be destroyed, or destroyed. That holds of routes that
need no key, too: see `gateway.keys.entrance`.
"""

from aiohttp import web

from gateway.http.requests import authorize
from gateway.http.services import services
from gateway.model import Right, Token


async def enter(request: web.Request, right: Right, tenant: str) -> Token:
    """Return the caller's token. Raises Unauthorized, Forbidden, and what a use of a key would."""
    serving = services(request)
    token = await authorize(request, serving.tokens, right, tenant)
    await serving.entrance.admit(tenant)
    return token
