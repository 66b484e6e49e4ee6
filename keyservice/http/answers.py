"""The HTTP answers, and what every one of them carries."""

from __future__ import annotations

import math

from aiohttp import web
from pydantic import BaseModel

from keyservice.protocol.messages import Problem

SERVER = "sealgate-keyservice"  # and not which library, which version


def json(message: BaseModel, status: int = 200) -> web.Response:
    """Return a message as JSON."""
    text = message.model_dump_json(exclude_none=True)
    return web.Response(text=text, status=status, content_type="application/json")


def problem(found: Problem) -> web.Response:
    """Return a refusal."""
    response = web.Response(
        text=found.model_dump_json(exclude_none=True),
        status=found.status,
        content_type="application/problem+json",
    )
    if found.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(found.retry_after))
    return response


def finish(response: web.StreamResponse, request_id: str) -> None:
    """Add what every answer has."""
    response.headers["X-Request-Id"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = SERVER
