"""The routes that read one attachment: GET and HEAD, whole or in ranges, now or of an older version.

Guarantees that a download ends cleanly only if every byte was authentic and sent: the length stands in
the head, the head waits for the first authentic byte, and what fails later cuts the connection.
"""

from contextlib import aclosing
from functools import partial

from aiohttp import web

from gateway.attachments.opened import Opened
from gateway.http import conditions, fields, ranges
from gateway.http.entry import enter
from gateway.http.pace import unsent
from gateway.http.requests import (
    BEGUN,
    reference_of,
    request_id,
    tenant_of,
    version_of,
)
from gateway.http.services import services
from gateway.model import Found, Right


async def get(request: web.Request) -> web.StreamResponse:
    """Send the current or the named version, whole or in ranges."""
    serving = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await enter(request, Right.READ, tenant)
    found = await serving.catalog.find(tenant, reference, version_of(request))
    if conditions.not_modified(request.headers, found.version):
        return web.Response(status=304, headers=_validators(found))
    asked = request.headers.get("Range") if request.method == "GET" else None
    if not conditions.range_applies(request.headers, found.version):
        asked = None
    spans = ranges.parse(asked, found.version.size)
    opened = await serving.downloads.open(found, request_id=request_id(request))
    response, frame = _head(opened, spans)
    if request.method == "HEAD":
        return response
    with serving.admission.stream(tenant):
        await _send(request, response, opened, frame, spans or [ranges.Span(0, opened.size)])
    return response


async def head(request: web.Request) -> web.StreamResponse:
    """Send the fields of a GET without the content."""
    return await get(request)


def _head(
    opened: Opened, spans: list[ranges.Span] | None
) -> tuple[web.StreamResponse, ranges.Frame | None]:
    """Return the answer without its content, and the frame around several ranges."""
    kind = opened.attributes.content_type or fields.DEFAULT_TYPE
    headers = {**_validators(opened.found), **fields.described(opened.attributes)}
    response, frame = web.StreamResponse(status=200 if spans is None else 206), None
    if spans is None:
        response.content_length = opened.size
        if "Repr-Digest" in headers:
            headers["Content-Digest"] = headers["Repr-Digest"]
    elif len(spans) == 1:
        headers["Content-Range"] = ranges.content_range(spans[0], opened.size)
        response.content_length = spans[0].stop - spans[0].start
    else:
        frame = ranges.Frame.around(spans, opened.size, kind)
        kind = f"multipart/byteranges; boundary={frame.boundary}"
        response.content_length = frame.length()
    response.headers.update({**headers, "Content-Type": kind})
    return response, frame


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    opened: Opened,
    frame: ranges.Frame | None,
    spans: list[ranges.Span],
) -> None:
    serving = services(request)
    pace = serving.pace()
    taken = partial(pace.wait, unsent=partial(unsent, request.transport))
    for span in spans:
        ahead = frame.head(span) if frame is not None else b""
        async with aclosing(serving.downloads.read(opened, span.start, span.stop)) as pieces:
            async for data in pieces:
                if not response.prepared:
                    request[BEGUN] = True
                    await response.prepare(request)
                if ahead:
                    await taken(response.write(ahead))
                    ahead = b""
                await taken(response.write(data))
                pace.moved(len(data))
                serving.metrics.sent.inc(len(data))
    if frame is not None:
        await taken(response.write(frame.tail()))
    if not response.prepared:  # an empty content
        await response.prepare(request)
    await taken(response.write_eof())


def _validators(found: Found) -> dict[str, str]:
    return {
        "ETag": conditions.etag(found.version),
        "Last-Modified": conditions.modified(found.version),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Sealgate-Version": found.version.id,
    }
