"""What every request carries: its id, who sends it, and a body that is read only when allowed.

Guarantees that `100 Continue` is sent only once the request has been authorised, and that an encoded
body is refused instead of being stored as something else.
"""

import re
import secrets
from collections.abc import AsyncGenerator

from aiohttp import ClientError, web

from gateway.errors import Disconnected, Invalid, NotFound, Unauthorized, UnsupportedEncoding
from gateway.model import Right, Token
from gateway.tokens import Tokens, allow

REQUEST_ID = web.RequestKey("request_id", str)
TENANT = web.RequestKey("tenant", str)
TOKEN = web.RequestKey("token", str)
BEGUN = web.RequestKey("begun", bool)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_REFERENCE = 1024


def request_id(request: web.Request) -> str:
    """Return the request's id: the client's, when it is a plain word, else a fresh one."""
    known = request.get(REQUEST_ID)
    if known is None:
        sent = request.headers.get("X-Request-Id", "")
        known = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
        request[REQUEST_ID] = known
    return known


async def authorize(
    request: web.Request, tokens: Tokens, right: Right, tenant: str | None
) -> Token:
    """Return the caller's token. Raises Unauthorized and Forbidden."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("send the token as `Authorization: Bearer …`")
    token = await tokens.check(text.strip())
    request[TOKEN] = token.id
    allow(token, tenant, right)
    return token


def tenant_of(request: web.Request) -> str:
    """Return the tenant in the path. Raises NotFound for what cannot be one."""
    tenant = request.match_info["tenant"]
    if not _ID.fullmatch(tenant):
        raise NotFound("no such tenant")
    request[TENANT] = tenant
    return tenant


def reference_of(request: web.Request) -> str:
    """Return the attachment id that the caller chose. Raises Invalid."""
    return valid_reference(request.match_info["attachment"])


def valid_reference(reference: str) -> str:
    """Return `reference` if it may be one: 1 to 1024 bytes of UTF-8 without control characters."""
    try:
        size = len(reference.encode())
    except UnicodeEncodeError:
        raise Invalid("the attachment id is not valid UTF-8") from None
    if not 0 < size <= _MAX_REFERENCE or not reference.isprintable():
        raise Invalid(f"an attachment id has 1 to {_MAX_REFERENCE} bytes and no control characters")
    return reference


def version_of(request: web.Request) -> str | None:
    """Return the version that `?version=` asks for. Raises NotFound for what cannot be one."""
    version = request.query.get("version")
    if version is not None and not _ID.fullmatch(version):
        raise NotFound("no such version")
    return version


def length_of(request: web.Request) -> int | None:
    """Return the declared length of the body, None when it comes in chunks."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("send the bytes as they are, without Content-Encoding")
    return request.content_length if request.body_exists else 0


async def body_of(request: web.Request) -> AsyncGenerator[bytes]:
    """Stream the body as it arrives, without joining what the socket gave apart."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    content = request.content
    try:
        while True:
            data, _ = await content.readchunk()
            if data:
                yield data
            elif content.at_eof():
                return
    except (ClientError, ConnectionError, web.RequestPayloadError) as error:
        raise Disconnected("the body ended before it was complete") from error


async def expect(request: web.Request) -> None:
    """Answer no `Expect` on the way in: `body_of` does, once the request is authorised."""
    if request.headers.get("Expect", "").lower() not in {"", "100-continue"}:
        raise web.HTTPExpectationFailed
