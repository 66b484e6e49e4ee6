"""From an error to its answer (RFC 9457), and the middleware that applies it.

Guarantees that an error's text reaches the client only if it was raised on purpose, that anything
else reads "internal error", and that a failure after the headers were sent cuts the connection, so
that no client takes half a body for a whole one. The table is `problem_types`.
"""

import asyncio
import json
import traceback
from collections.abc import Mapping
from pathlib import PurePath

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import errors
from gateway.http.problem_types import FAILED, INTERNAL, PROBLEMS, ROUTING, Problem
from gateway.http.requests import BEGUN, expectation, framing, request_id, unread
from gateway.http.services import services
from gateway.http.targets import refuse_lost_parts
from keyservice import wire

log = structlog.get_logger()
TYPE = "application/problem+json"
DELIBERATE = (errors.GatewayError, wire.KeyServiceError)
_RETRY_AFTER = 5.0
_RETRIED = frozenset({429, 503})
_FRAMING = frozenset({400, 501})  # who knows where the next request begins


def problem_of(error: BaseException) -> Problem:
    """Return the row of the nearest ancestor of an error's type."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return INTERNAL


def render(
    request: web.BaseRequest,
    problem: Problem,
    *,
    detail: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a problem as application/problem+json."""
    body = {
        "type": f"urn:sealgate:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": f"urn:sealgate:request:{request_id(request)}",
    }
    response = web.Response(
        status=problem.status,
        body=json.dumps({name: value for name, value in body.items() if value != ""}).encode(),
        headers={"Content-Type": TYPE, "Cache-Control": "no-store", **(headers or {})},
    )
    if unread(request):
        # What is still to come of the body would be taken for the next request.
        response.force_close()
    return response


def answer(request: web.Request, error: Exception) -> web.Response:
    """Turn an error into its problem."""
    problem, headers = problem_of(error), dict[str, str]()
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and problem.status in _RETRIED:
        retry_after = _RETRY_AFTER
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if problem.status == web.HTTPUnauthorized.status_code:
        headers["WWW-Authenticate"] = 'Bearer realm="sealgate"'
    if isinstance(error, errors.RangeInvalid):
        headers["Content-Range"] = f"bytes */{error.size}"
    said = isinstance(error, DELIBERATE) and problem.status not in FAILED
    return render(request, problem, detail=str(error) if said else "", headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors; cut the connection when the answer has already begun."""
    try:
        framing(request)
        expectation(request)
        refuse_lost_parts(request)
        return await handler(request)
    except web.HTTPException as error:
        return _routing(request, error)
    except Exception as error:
        if request.get(BEGUN):
            _cut(request, error)
            raise
        if not isinstance(error, DELIBERATE):
            _unexpected(request, error)
        if isinstance(error, wire.Suspended | wire.Shredded):
            services(request).metrics.shut.labels(error.code).inc()
        return answer(request, error)


def _cut(request: web.Request, error: Exception) -> None:
    """End a connection whose answer cannot be completed, so that its end is seen as a failure."""
    gone = request.transport is None or request.transport.is_closing()
    if not gone or not isinstance(error, ConnectionError):
        log.warning("download cut", reason=type(error).__name__, request_id=request_id(request))
    if not isinstance(error, (*DELIBERATE, ConnectionError)):
        _unexpected(request, error)
    if request.transport is not None:
        request.transport.abort()


def _unexpected(request: web.Request, error: Exception) -> None:
    """Record where an error came from, without its text, which could quote anything."""
    places = [
        f"{PurePath(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    log.error(
        "unexpected error",
        error=type(error).__name__,
        places=places,
        request_id=request_id(request),
    )


def client_left(error: BaseException) -> bool:
    """Tell whether a request ended because nobody takes its answer any more, or hardly."""
    return isinstance(error, asyncio.CancelledError | ConnectionError | errors.TooSlow)


def _routing(request: web.Request, error: web.HTTPException) -> web.Response:
    """Give aiohttp's own answers (no route, wrong method) the same form."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    problem = ROUTING.get(error.status, Problem(error.status, "http", error.reason))
    response = render(request, problem, headers=headers)
    if error.status in _FRAMING:
        response.force_close()
    return response
