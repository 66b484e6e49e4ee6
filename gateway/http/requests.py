"""What every request carries: its id, who sends it, and a body that is read only when allowed.

Guarantees that `100 Continue` is sent only once the request has been authorised, and that an encoded
or partial body is refused instead of being stored as something else.
"""

import random
import re
from collections.abc import AsyncGenerator
from urllib.parse import unquote

from aiohttp import ClientError, HttpVersion11, web

from gateway.attachments.tokens import Tokens, allow
from gateway.errors import Disconnected, Invalid, NotFound, Unauthorized, UnsupportedEncoding
from gateway.http.pace import Pace
from gateway.http.straight import take_over
from gateway.http.text import is_plain, size_of
from gateway.model import SYSTEM, Right, Token

REQUEST_ID = web.RequestKey("request_id", str)
TENANT = web.RequestKey("tenant", str)
TOKEN = web.RequestKey("token", str)
BEGUN = web.RequestKey("begun", bool)  # the head of a streamed answer may have left

MAX_REFERENCE = 1024
_RANDOM = random.Random()  # noqa: S311 - a request id is a name and no secret; this asks no kernel
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID = re.compile(r"[0-9a-f]{32}")
_SEGMENT = "/v1/tenants/{tenant}/attachments/{attachment}".count("/")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = (".", "..")  # clients and proxies take these out of a path, whatever their encoding


def request_id(request: web.BaseRequest) -> str:
    """Return the request's id: the client's, when it is a plain word, else a fresh one."""
    known = request.get(REQUEST_ID)
    if known is None:
        sent = request.headers.get("X-Request-Id", "")
        known = sent if _REQUEST_ID.fullmatch(sent) else f"{_RANDOM.getrandbits(64):016x}"
        request[REQUEST_ID] = known
    return known


async def authorize(
    request: web.Request, tokens: Tokens, right: Right, tenant: str | None
) -> Token:
    """Return the caller's token. Raises Unauthorized and Forbidden."""
    sent = request.headers.getall("Authorization", [])
    # Of two, somebody before us may have looked at the other one.
    scheme, _, text = (sent[0] if len(sent) == 1 else "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("send the token as `Authorization: Bearer …`")
    token = await tokens.check(text.strip())
    request[TOKEN] = token.id
    allow(token, tenant, right)
    return token


def tenant_of(request: web.Request) -> str:
    """Return the tenant in the path. Raises NotFound for what cannot be one, and for the reserved one."""
    tenant = request.match_info["tenant"]
    if not is_id(tenant) or tenant == SYSTEM:
        raise NotFound("no such tenant")
    request[TENANT] = tenant
    return tenant


def is_id(text: str) -> bool:
    """Tell whether a text has the form of the gateway's own ids."""
    return _ID.fullmatch(text) is not None


def reference_of(request: web.Request) -> str:
    """Return the attachment id that the caller chose, decoded once and strictly. Raises Invalid."""
    segment = request.rel_url.raw_path.split("/")[_SEGMENT]
    if _BROKEN_ESCAPE.search(segment):
        raise Invalid("the attachment id is not percent-encoded: write % as %25")
    try:
        return valid_reference(unquote(segment, errors="strict"))
    except UnicodeDecodeError:
        raise Invalid("the attachment id is not valid UTF-8") from None


def valid_reference(reference: str) -> str:
    """Return `reference` if it may be one: 1 to 1024 bytes of UTF-8 without control characters."""
    if reference in _DOTS:
        raise Invalid("an attachment id is not one or two dots alone")
    if not is_plain(reference) or not 0 < size_of(reference) <= MAX_REFERENCE:
        raise Invalid(f"an attachment id has 1 to {MAX_REFERENCE} bytes and no control characters")
    return reference


def version_of(request: web.Request) -> str | None:
    """Return the version that `?version=` asks for. Raises NotFound for what cannot be one."""
    version = request.query.get("version")
    if version is not None and not is_id(version):
        raise NotFound("no such version")
    return version


def length_of(request: web.Request) -> int | None:
    """Return the declared length of the body, None when it comes in chunks."""
    refuse_encoded(request)
    if "Content-Range" in request.headers:
        raise Invalid("a body is stored whole: Content-Range is not supported")
    return request.content_length if request.body_exists else 0


def refuse_encoded(request: web.Request) -> None:
    """Raise UnsupportedEncoding for a body that is not sent as it is."""
    codings = ",".join(request.headers.getall("Content-Encoding", [])).lower().split(",")
    if any(coding.strip() not in {"", "identity"} for coding in codings):
        raise UnsupportedEncoding("send the bytes as they are, without Content-Encoding")


async def body_of(request: web.Request, pace: Pace) -> AsyncGenerator[bytes | memoryview]:
    """Stream the body as it arrives. A piece is good until the next one is asked for.

    Raises Disconnected when it ends early and TooSlow when it hardly comes.
    """
    await go_ahead(request)
    content, missing = request.content, request.content_length or 0
    try:
        while data := content.read_nowait():
            missing -= len(data)
            pace.moved(len(data))
            yield data
        # Nothing may be awaited between the last look for data and here.
        if straight := take_over(request, missing):
            try:
                while straight.left:
                    block = await pace.wait(straight.block())
                    pace.moved(len(block))
                    yield block
            finally:
                straight.end()
            return
        while True:
            data, _ = await pace.wait(content.readchunk())
            if data:
                pace.moved(len(data))
                yield data
            elif content.at_eof():
                return
    except (ClientError, ConnectionError, web.RequestPayloadError) as error:
        raise Disconnected("the body ended before it was complete") from error


def unread(request: web.BaseRequest) -> bool:
    """Tell whether some of the body has not arrived, so that the connection cannot be used again."""
    return request.can_read_body and not request.content.is_eof()


async def go_ahead(request: web.Request) -> None:
    """Send `100 Continue` if the client waits for it: the request is authorised and makes sense."""
    if "Expect" in request.headers and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def no_answer_yet(request: web.Request) -> None:
    """Send nothing for `Expect` before the request is authorised: `go_ahead` does afterwards."""


def framing(request: web.Request) -> None:
    """Refuse a body that would be stored coded, or that a proxy may see another end of.

    Raises HTTPNotImplemented for a transfer coding other than `chunked`, HTTPBadRequest for one in
    HTTP/1.0, which knows none (RFC 9112, section 6.1).
    """
    codings = request.headers.getall("Transfer-Encoding", [])
    if codings and request.version < HttpVersion11:
        raise web.HTTPBadRequest
    if codings and ",".join(codings).strip().lower() != "chunked":
        raise web.HTTPNotImplemented


def expectation(request: web.Request) -> None:
    """Refuse an expectation other than 100-continue. Raises HTTPExpectationFailed."""
    if request.headers.get("Expect", "100-continue").strip().lower() != "100-continue":
        raise web.HTTPExpectationFailed
