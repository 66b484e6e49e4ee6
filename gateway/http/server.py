"""The aiohttp application: every route, and what surrounds each of them.

One access record a request, as structured JSON: the route's template, never the path, because an
attachment id may carry meaning; no query, no name, no token.
"""

import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http import (
    attachments,
    content,
    health,
    listing,
    openapi,
    tenants,
    terms,
    tokens,
    trash,
)
from gateway.http.connection import SERVER
from gateway.http.paging import MAX_JSON
from gateway.http.problems import client_left, problems
from gateway.http.requests import TENANT, TOKEN, no_answer_yet, request_id, unread
from gateway.http.services import SERVICES, Services, services

log = structlog.get_logger()
LEFT, CUT = 499, 599  # never sent: the client left, or no target could give the rest
ONE_TENANT = "/v1/tenants/{tenant}"
ATTACHMENT = ONE_TENANT + "/attachments/{attachment:[^/]+}"  # braces too, which aiohttp leaves out
TRASH = ONE_TENANT + "/trash"


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and record every request."""
    metrics, began, status = services(request).metrics, time.monotonic(), LEFT
    metrics.running.inc()
    try:
        response = await handler(request)
        status = response.status
    except BaseException as error:
        if not client_left(error):
            status = CUT
            metrics.cut.inc()
        raise
    finally:
        took = time.monotonic() - began
        metrics.running.dec()
        metrics.ended(request.method, status, took)
        resource = request.match_info.route.resource
        log.info(
            "request",
            method=metrics.method(request.method),
            route=resource.canonical if resource is not None else None,
            status=status,
            seconds=round(took, 4),
            tenant=request.get(TENANT),
            token=request.get(TOKEN),
            request_id=request_id(request),
        )
    return response


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = request_id(request)
    response.headers["Server"] = SERVER
    if "Expect" in request.headers and unread(request):
        # Whoever was not told to continue may send the body or the next request: nobody can tell which.
        response.headers["Connection"] = "close"
        response.force_close()


ROUTES = (
    ("PUT", ATTACHMENT, attachments.put),
    ("GET", ATTACHMENT, content.get),
    ("HEAD", ATTACHMENT, content.head),
    ("DELETE", ATTACHMENT, attachments.delete),
    ("GET", ATTACHMENT + "/versions", attachments.versions),
    ("POST", ONE_TENANT + "/attachments", attachments.post),
    ("GET", ONE_TENANT + "/attachments", listing.listed),
    ("GET", TRASH, trash.listed),
    ("POST", TRASH + "/{trashed}/undelete", trash.undelete),
    ("DELETE", TRASH + "/{trashed}", trash.purge),
    ("GET", ONE_TENANT + "/retention", trash.retention),
    ("PUT", ONE_TENANT + "/retention", trash.retain),
    ("POST", "/v1/tenants", tenants.create),
    ("GET", "/v1/tenants", tenants.listed),
    ("GET", ONE_TENANT, terms.show),
    ("PATCH", ONE_TENANT, terms.change),
    ("POST", ONE_TENANT + "/tokens", tokens.create),
    ("GET", ONE_TENANT + "/tokens", tokens.listed),
    ("DELETE", ONE_TENANT + "/tokens/{token}", tokens.revoke),
    ("GET", "/livez", health.livez),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", "/openapi.json", openapi.document),
)
"""Every route, in the order in which aiohttp tries them: those first that have to be quick.

What has no HEAD of its own answers one like its GET.
"""


def application(serving: Services) -> web.Application:
    """Return the application over these use cases."""
    app = web.Application(middlewares=[access, problems], client_max_size=MAX_JSON)
    app[SERVICES] = serving
    app[openapi.DOCUMENT] = openapi.build(ROUTES)
    app.on_response_prepare.append(_finish)
    health.install(app)
    router(app)
    return app


def router(app: web.Application) -> None:
    """Give the application its routes."""
    own_head = {path for method, path, _ in ROUTES if method == "HEAD"}
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler, expect_handler=no_answer_yet)
        if method == "GET" and path not in own_head:
            app.router.add_route("HEAD", path, handler, expect_handler=no_answer_yet)
