"""Pages and small JSON bodies: cursors, limits, and objects with known fields only."""

import base64
import binascii
import json
from contextlib import aclosing
from typing import Any

from aiohttp import web

from gateway.errors import Invalid, TooLarge
from gateway.http.requests import body_of, refuse_encoded
from gateway.http.services import services
from gateway.http.text import is_plain

MAX_JSON = 64 * 1024
MAX_PAGE, DEFAULT_PAGE = 1000, 100
FRESH = {"Cache-Control": "no-store"}
_MAX_DIGITS = 9


def limit_of(request: web.Request) -> int:
    """Return `?limit=`. Raises Invalid."""
    text = request.query.get("limit", str(DEFAULT_PAGE))
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0
    if not 1 <= number <= MAX_PAGE:
        raise Invalid(f"limit is a number from 1 to {MAX_PAGE}")
    return number


def cursor_of(place: str | None) -> str | None:
    """Return the opaque form of the place to go on after, None when there is no more."""
    return None if place is None else base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def after(request: web.Request) -> str | None:
    """Return the place that `?cursor=` names. Raises Invalid for what no listing gave."""
    cursor = request.query.get("cursor")
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        place = ""
    if not place or not is_plain(place):
        raise Invalid("the cursor is not one that a listing gave")
    return place


async def json_of(request: web.Request, allowed: frozenset[str]) -> dict[str, Any]:
    """Return a small JSON object with no other fields than those allowed.

    Raises Invalid, TooLarge, and what `body_of` raises: it must come as fast as any body.
    """
    if not request.body_exists:
        return {}
    refuse_encoded(request)
    too_large = TooLarge(f"a JSON body has at most {MAX_JSON} bytes")
    if (request.content_length or 0) > MAX_JSON:
        raise too_large
    text = bytearray()
    async with aclosing(body_of(request, services(request).pace())) as pieces:
        async for piece in pieces:
            text += piece
            if len(text) > MAX_JSON:
                raise too_large
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON") from None
    if not isinstance(body, dict) or not body.keys() <= allowed:
        raise Invalid(f"the body is a JSON object with fields of: {', '.join(sorted(allowed))}")
    return body
