"""What a worker shows of itself: is it alive, is it ready, and its figures. It takes no requests."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from gateway.http.health import Check, state
from gateway.http.metrics import Metrics

TYPE = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def application(ready: Mapping[str, Check], metrics: Metrics) -> web.Application:
    """Return the application. It is ready while the catalog is; the other lines are for people."""

    async def livez(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.StreamResponse:
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(state(check)) for name, check in ready.items()}
        states = {name: task.result() for name, task in asked.items()}
        text = "".join(f"{name}: {each}\n" for name, each in states.items())
        return web.Response(status=200 if states["catalog"] == "ok" else 503, text=text)

    async def figures(_: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.expose(), headers=TYPE)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", figures)
    return app
