"""One table from error type to answer (RFC 9457), and the middleware that applies it.

Guarantees that an error's text reaches the client only if it was raised on purpose, that anything
else reads "internal error", and that a failure after the headers were sent cuts the connection, so
that no client takes half a body for a whole one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import errors
from gateway.http.requests import BEGUN, request_id
from gateway.quorum import QuorumLost
from keyservice import wire

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of answer: HTTP status and the last part of its stable `type`."""

    status: int
    slug: str
    title: str


PROBLEMS: Mapping[type[Exception], Problem] = {
    errors.Invalid: Problem(400, "invalid-request", "The request is malformed"),
    errors.DigestMismatch: Problem(400, "digest-mismatch", "The body has another digest"),
    errors.Disconnected: Problem(400, "incomplete-body", "The body ended early"),
    errors.Unauthorized: Problem(401, "unauthorized", "A valid token is needed"),
    errors.Forbidden: Problem(403, "forbidden", "The token does not allow this"),
    errors.NotFound: Problem(404, "not-found", "There is no such thing"),
    errors.OperationRunning: Problem(409, "operation-running", "The first request still runs"),
    errors.PreconditionFailed: Problem(412, "precondition-failed", "The precondition fails"),
    errors.TooLarge: Problem(413, "too-large", "The body is too large"),
    errors.UnsupportedEncoding: Problem(415, "unsupported-encoding", "The body is encoded"),
    errors.RangeInvalid: Problem(416, "range-not-satisfiable", "The range lies outside"),
    errors.OperationDiffers: Problem(422, "idempotency-mismatch", "The key was used before"),
    errors.Unreadable: Problem(503, "unreadable", "No target can serve this version"),
    errors.StoreFull: Problem(507, "store-full", "A store has no room left"),
    errors.StoreError: Problem(503, "store-unavailable", "A store does not answer"),
    errors.CatalogError: Problem(503, "catalog-unavailable", "The catalog does not answer"),
    errors.GatewayError: Problem(500, "internal", "Internal error"),
    QuorumLost: Problem(503, "quorum-lost", "Too few stores can hold the upload"),
    wire.Denied: Problem(403, "key-denied", "The key service refuses this use"),
    wire.Suspended: Problem(403, "tenant-suspended", "The tenant is suspended"),
    wire.Shredded: Problem(410, "tenant-shredded", "The tenant's keys are destroyed"),
    wire.UnknownTenant: Problem(404, "tenant-unknown", "The key service does not know the tenant"),
    wire.Throttled: Problem(429, "throttled", "Too many key requests"),
    wire.CannotUnwrap: Problem(500, "key-damaged", "The data key does not open"),
    wire.Unavailable: Problem(503, "keys-unavailable", "The key service is not available"),
    wire.KeyServiceError: Problem(502, "key-service", "The key service failed"),
}
INTERNAL = Problem(500, "internal", "Internal error")
SILENT = (errors.GatewayError, wire.KeyServiceError)


def problem_of(error: Exception) -> Problem:
    """Return the row of the nearest ancestor of an error's type."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return INTERNAL


def answer(request: web.Request, error: Exception) -> web.Response:
    """Turn an error into application/problem+json."""
    problem = problem_of(error)
    deliberate = isinstance(error, SILENT)
    body = {
        "type": f"urn:sealgate:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": str(error) if deliberate and problem is not INTERNAL else "",
        "instance": f"urn:sealgate:request:{request_id(request)}",
    }
    headers = {"Cache-Control": "no-store"}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and problem.status in {429, 503}:
        retry_after = 5
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if problem.status == web.HTTPUnauthorized.status_code:
        headers["WWW-Authenticate"] = 'Bearer realm="sealgate"'
    if isinstance(error, errors.RangeInvalid):
        headers["Content-Range"] = f"bytes */{error.size}"
    return web.Response(
        status=problem.status,
        body=json.dumps({k: v for k, v in body.items() if v != ""}).encode(),
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors; cut the connection when the answer has already begun."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _routing(request, error)
    except Exception as error:
        if not isinstance(error, SILENT):
            log.exception("unexpected error", request_id=request_id(request))
        if request.get(BEGUN):
            log.warning(
                "download cut",
                reason=type(error).__name__,
                request_id=request_id(request),
            )
            if request.transport is not None:
                request.transport.abort()
            raise
        return answer(request, error)


def _routing(request: web.Request, error: web.HTTPException) -> web.Response:
    """Give aiohttp's own answers (no route, wrong method) the same form."""
    body = {
        "type": f"urn:sealgate:problem:http-{error.status}",
        "title": error.reason,
        "status": error.status,
        "instance": f"urn:sealgate:request:{request_id(request)}",
    }
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return web.Response(
        status=error.status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers=headers,
    )
