"""The OpenAPI 3.1 document at `/openapi.json`, put together from the routes and what is said of them.

Every answer that a route can give is in it, problems included; the HTTP layer's own refusals, which
apply everywhere, are told in the description. A test checks the document against the routes, and the
service tests check every answer against the document.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.openapi_parts import HEADERS, PARAMETERS, SCHEMAS
from gateway.http.openapi_routes import ANY, JSON, OPERATIONS, Answer, Operation
from gateway.http.problem_types import INTERNAL, PROBLEMS, ROUTING, Problem

Route = tuple[str, str, Handler]
DOCUMENT = web.AppKey("openapi", dict[str, Any])
PROBLEM_MEDIA = "application/problem+json"
BY_SLUG = {p.slug: p for p in (*ROUTING.values(), *PROBLEMS.values(), INTERNAL)}
_RETRIED = frozenset({408, 409, 429, 503})
_DESCRIPTION = """\
Attachments, sealed as they stream. The narrative, with every problem type, is in `docs/api.md`.

What is not HTTP is answered 400 `malformed`; a request line or field over 8190 bytes, 431
`fields-too-large`; an unknown path, 404 `no-route`; another method, 405 `method-not-allowed`. Every GET
answers HEAD too. User metadata travels in `X-Sealgate-Meta-*` fields, percent-encoded UTF-8."""


async def document(request: web.Request) -> web.StreamResponse:
    """Describe this API."""
    return web.json_response(request.app[DOCUMENT])


def build(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document of these routes. Raises KeyError for a route of which nothing is said."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in routes:
        place = template(path)
        operation = OPERATIONS[method, place]
        paths.setdefault(place, {})[method.lower()] = _operation(operation, handler)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sealgate",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def template(path: str) -> str:
    """Return a route's path as a template of OpenAPI, without aiohttp's patterns."""
    return re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", path)


def _operation(operation: Operation, handler: Handler) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    for status, problems in _by_status(operation.problems).items():
        if str(status) in responses:  # a probe that says 503 in its own words
            continue
        responses[str(status)] = _problem(status, problems)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": (handler.__doc__ or "").partition("\n")[0],
        "tags": [operation.tag],
        "security": [] if operation.right is None else [{"token": [operation.right.value]}],
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"}
            for name in (*operation.parameters, "X-Request-Id")
        ],
        "responses": dict(sorted(responses.items())),
    }
    if operation.body is not None:
        described["requestBody"] = _body(operation)
    return described


def _body(operation: Operation) -> dict[str, Any]:
    if operation.body == ANY:
        content: dict[str, Any] = {ANY: {}}
    else:
        content = {JSON: {"schema": {"$ref": f"#/components/schemas/{operation.body}"}}}
    return {"content": content, "required": operation.required}


def _answer(answer: Answer) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{answer.schema}"}} if answer.schema else {}
    shown: dict[str, Any] = {
        "description": answer.text,
        "headers": _headers(("X-Request-Id", *answer.headers)),
    }
    return {**shown, "content": dict.fromkeys(answer.media, schema)} if answer.media else shown


def _problem(status: int, problems: Sequence[Problem]) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if status in _RETRIED:
        headers.append("Retry-After")
    if status == web.HTTPUnauthorized.status_code:
        headers.append("WWW-Authenticate")
    if status == web.HTTPRequestRangeNotSatisfiable.status_code:
        headers.append("Content-Range")
    return {
        "description": "; ".join(f"`{problem.slug}`: {problem.title}" for problem in problems),
        "headers": _headers(headers),
        "content": {PROBLEM_MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _by_status(slugs: Iterable[str]) -> dict[int, list[Problem]]:
    found: dict[int, list[Problem]] = {}
    for slug in dict.fromkeys(slugs):
        problem = BY_SLUG[slug]
        found.setdefault(problem.status, []).append(problem)
    return found
