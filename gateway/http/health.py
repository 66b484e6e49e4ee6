"""Is it alive, is it ready, and its figures. None of these needs a token; none tells a secret.

`/readyz` asks every dependency at once, within a time limit, and remembers the answer for a moment,
so that asking often costs nothing.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.http.services import Services, services

Check = Callable[[], Awaitable[None]]

LIMIT = 3.0
FRESH = 1.0
DRAINING = web.AppKey("draining", asyncio.Event)


@dataclass(slots=True)
class Readiness:
    """The last answer, and a lock by which those who come at once wait for one question."""

    asked: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = -math.inf
    status: int = 503
    text: str = ""


_LAST = web.AppKey("last_readiness", Readiness)


async def livez(_: web.Request) -> web.StreamResponse:
    """Answer at once, whatever the dependencies do."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.StreamResponse:
    """Answer 200 when uploads and downloads can work, with one line a dependency."""
    if request.app[DRAINING].is_set():
        return web.Response(status=503, text="draining\n")
    last = request.app[_LAST]
    async with last.asked:
        if time.monotonic() - last.at > FRESH:
            last.status, last.text = await _ask(services(request))
            last.at = time.monotonic()
    return web.Response(status=last.status, text=last.text, headers={"Cache-Control": "no-store"})


async def _ask(serving: Services) -> tuple[int, str]:
    async with asyncio.TaskGroup() as group:
        asked = {name: group.create_task(state(check)) for name, check in serving.ready.items()}
    states = {name: task.result() for name, task in asked.items()}
    good = frozenset(name for name, state in states.items() if state == "ok")
    text = "".join(f"{name}: {state}\n" for name, state in states.items())
    return 200 if serving.required(good) else 503, text


async def state(check: Check) -> str:
    """Ask one dependency, within the time limit."""
    try:
        async with asyncio.timeout(LIMIT):
            await check()
    except TimeoutError:
        return "no answer"
    except Exception as error:  # noqa: BLE001 - whatever it is, the dependency is not ready
        return f"failed ({type(error).__name__})"
    return "ok"


async def metrics(request: web.Request) -> web.StreamResponse:
    """Give the figures in Prometheus' text format."""
    return web.Response(
        body=services(request).metrics.expose(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def install(app: web.Application) -> None:
    """Give the application the state that these routes need."""
    app[DRAINING] = asyncio.Event()
    app[_LAST] = Readiness()
