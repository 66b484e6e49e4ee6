"""The aiohttp application: every route, and what surrounds each of them.

One access record a request, as structured JSON: the route's template, never the path, because an
attachment id may carry meaning; no query, no name, no token.
"""

import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http import attachments, collections, health, openapi, requests
from gateway.http.problems import problems
from gateway.http.requests import BEGUN, TOKEN, expect, request_id
from gateway.http.services import SERVICES, Services, services

log = structlog.get_logger()
TENANT = "/v1/tenants/{tenant}"
ATTACHMENT = TENANT + "/attachments/{attachment}"


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and record every request."""
    metrics, began, status = services(request).metrics, time.monotonic(), 0
    metrics.running.inc()
    try:
        response = await handler(request)
        status = response.status
    finally:
        took = time.monotonic() - began
        metrics.running.dec()
        metrics.seconds.labels(metrics.method(request.method)).observe(took)
        if status == 0:
            status = 499 if not request.get(BEGUN) else 599
            if request.get(BEGUN):
                metrics.cut.inc()
        metrics.requests.labels(metrics.method(request.method), f"{status // 100}xx").inc()
        resource = request.match_info.route.resource
        log.info(
            "request",
            method=request.method,
            route=resource.canonical if resource is not None else None,
            status=status,
            seconds=round(took, 4),
            tenant=request.get(requests.TENANT),
            token=request.get(TOKEN),
            request_id=request_id(request),
        )
    return response


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = request_id(request)
    response.headers["Server"] = "sealgate"


def application(serving: Services) -> web.Application:
    """Return the application over these use cases."""
    app = web.Application(middlewares=[access, problems], client_max_size=64 * 1024)
    app[SERVICES] = serving
    app.on_response_prepare.append(_finish)
    health.install(app)
    router = app.router
    router.add_get("/livez", health.livez)
    router.add_get("/readyz", health.readyz)
    router.add_get("/metrics", health.metrics)
    router.add_get("/openapi.json", openapi.document)
    router.add_post("/v1/tenants", collections.create_tenant)
    router.add_get("/v1/tenants", collections.list_tenants)
    router.add_get(TENANT, collections.show_tenant)
    router.add_post(TENANT + "/tokens", collections.create_token)
    router.add_get(TENANT + "/tokens", collections.list_tokens)
    router.add_delete(TENANT + "/tokens/{token}", collections.revoke_token)
    router.add_get(TENANT + "/attachments", collections.attachments)
    router.add_post(TENANT + "/attachments", attachments.post, expect_handler=expect)
    one = router.add_resource(ATTACHMENT, name="attachment")
    one.add_route("PUT", attachments.put, expect_handler=expect)
    one.add_route("GET", attachments.get)
    one.add_route("HEAD", attachments.get)
    one.add_route("DELETE", attachments.delete)
    router.add_get(ATTACHMENT + "/versions", attachments.versions)
    return app
