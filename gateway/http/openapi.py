"""The OpenAPI 3.1 document at `/openapi.json`."""

from typing import Any

from aiohttp import web


async def document(request: web.Request) -> web.StreamResponse:
    """Send the document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in request.app.router.routes():
        if route.resource is not None:
            summary = (route.handler.__doc__ or "").partition("\n")[0]
            paths.setdefault(route.resource.canonical, {})[route.method.lower()] = {
                "summary": summary,
                "responses": {"default": {"description": "see the summary"}},
            }
    return web.json_response(
        {"openapi": "3.1.0", "info": {"title": "Sealgate", "version": "1"}, "paths": paths}
    )
