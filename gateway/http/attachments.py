"""The routes of one attachment: PUT, POST, GET, HEAD, DELETE, and its versions.

Guarantees that a download ends cleanly only if every byte was authentic and sent, and that nothing of
a body is read before the request is authorised. The rules are the use cases'; only HTTP is here.
"""

import hashlib
import json
from contextlib import aclosing
from typing import Any

from aiohttp import web

from gateway.errors import Invalid
from gateway.http import conditions, fields, ranges
from gateway.http.requests import (
    BEGUN,
    authorize,
    body_of,
    length_of,
    reference_of,
    request_id,
    tenant_of,
    version_of,
)
from gateway.http.services import Services, services
from gateway.model import Found, Right, new_id
from gateway.uploads import Draft, Receipt

_MAX_KEY = 255


async def put(request: web.Request) -> web.StreamResponse:
    """Store the body as the new current version of the attachment in the path."""
    tenant, reference = tenant_of(request), reference_of(request)
    await authorize(request, services(request).tokens, Right.WRITE, tenant)
    return await _store(request, tenant, reference)


async def post(request: web.Request) -> web.StreamResponse:
    """Store the body as a new attachment under an id that the gateway assigns."""
    tenant = tenant_of(request)
    await authorize(request, services(request).tokens, Right.WRITE, tenant)
    return await _store(request, tenant, new_id())


async def _store(request: web.Request, tenant: str, reference: str) -> web.StreamResponse:
    serving = services(request)
    draft = Draft(
        tenant=tenant,
        reference=reference,
        name=fields.file_name(request.headers),
        content_type=fields.content_type(request.headers),
        user=fields.metadata(request.headers),
        digests=fields.digests(request.headers),
        wanted=fields.wanted(request.headers),
        length=length_of(request),
        precondition=conditions.for_change(request.headers),
        request_id=request_id(request),
    )
    key, replayed = request.headers.get("Idempotency-Key"), False
    async with aclosing(body_of(request)) as body:
        if key is None:
            receipt = await serving.uploads.store(draft, body)
        else:
            if not 0 < len(key) <= _MAX_KEY:
                raise Invalid(f"an Idempotency-Key has 1 to {_MAX_KEY} characters")
            receipt, replayed = await serving.operations.store_once(
                draft, body, key=key, fingerprint=_fingerprint(request, draft)
            )
    if not replayed:
        serving.metrics.received.inc(receipt.version.size)
        for name in receipt.missed:
            serving.metrics.missing.labels(name).inc()
    return _receipt(request, receipt, replayed=replayed)


def _fingerprint(request: web.Request, draft: Draft) -> bytes:
    """Return what makes two requests the same, besides their bodies: these are compared apart."""
    said: list[Any] = [
        request.method,
        request.path,
        draft.name,
        draft.content_type,
        sorted(draft.user.items()),
        draft.length,
    ]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _receipt(request: web.Request, receipt: Receipt, *, replayed: bool) -> web.Response:
    version, reference = receipt.version, receipt.attachment.reference
    url = request.app.router["attachment"].url_for(tenant=version.tenant, attachment=reference)
    body = {
        "attachment": reference,
        "version": version.id,
        "size": version.size,
        "created": version.created.isoformat(),
        "stored": sorted(receipt.stored),
    }
    headers = {
        "ETag": conditions.etag(version),
        "Location": str(url),
        "Sealgate-Stored": ", ".join(sorted(receipt.stored)),
        "Cache-Control": "no-store",
    }
    if digest := fields.digest_field(receipt.digests):
        headers["Repr-Digest"] = digest
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return web.json_response(body, status=201, headers=headers)


async def get(request: web.Request) -> web.StreamResponse:
    """Send the current or the named version, whole or in ranges; HEAD sends the fields alone."""
    serving = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await authorize(request, serving.tokens, Right.READ, tenant)
    found = await serving.catalog.find(tenant, reference, version_of(request))
    if conditions.not_modified(request.headers, found.version):
        return web.Response(status=304, headers=_validators(found))
    opened = await serving.downloads.open(found, request_id=request_id(request))
    kind = opened.attributes.content_type or fields.DEFAULT_TYPE
    headers = {**_validators(found), **fields.described(opened.attributes), "Content-Type": kind}
    asked = request.headers.get("Range") if request.method == "GET" else None
    if not conditions.range_applies(request.headers, found.version):
        asked = None
    spans = ranges.parse(asked, opened.size)
    frame: ranges.Frame | None = None
    response = web.StreamResponse(status=200 if spans is None else 206)
    response.content_length = opened.size
    if spans is not None and len(spans) == 1:
        span = spans[0]
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{opened.size}"
        response.content_length = span.stop - span.start
    elif spans is not None:
        frame = ranges.Frame.around(spans, opened.size, kind)
        headers["Content-Type"] = f"multipart/byteranges; boundary={frame.boundary}"
        response.content_length = frame.length()
    response.headers.update(headers)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    for span in spans or [ranges.Span(0, opened.size)]:
        await _begin(request, response, frame.head(span) if frame else b"", wait=opened.size == 0)
        async with aclosing(serving.downloads.read(opened, span.start, span.stop)) as pieces:
            async for data in pieces:
                await _begin(request, response, data, wait=False)
                serving.metrics.sent.inc(len(data))
    if frame is not None:
        await response.write(frame.tail())
    await response.write_eof()
    return response


async def _begin(
    request: web.Request, response: web.StreamResponse, data: bytes, *, wait: bool
) -> None:
    """Send data, and the head before the first of it.

    The head waits for the first authentic byte, so that what fails at once is still answered with a
    clear error instead of a cut connection.
    """
    if not response.prepared and (data or wait):
        request[BEGUN] = True
        await response.prepare(request)
    if data:
        await response.write(data)


def _validators(found: Found) -> dict[str, str]:
    return {
        "ETag": conditions.etag(found.version),
        "Last-Modified": conditions.modified(found.version),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Sealgate-Version": found.version.id,
    }


async def delete(request: web.Request) -> web.StreamResponse:
    """Move the attachment to the trash."""
    serving: Services = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await authorize(request, serving.tokens, Right.DELETE, tenant)
    await serving.trash.put(tenant, reference, conditions.for_change(request.headers))
    return web.Response(status=204)


async def versions(request: web.Request) -> web.StreamResponse:
    """List every version of the attachment, newest first."""
    serving = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await authorize(request, serving.tokens, Right.READ, tenant)
    found = await serving.catalog.versions(tenant, reference)
    rows = [
        {
            "version": item.version.id,
            "size": item.version.size,
            "etag": conditions.etag(item.version),
            "created": item.version.created.isoformat(),
            "current": item.current,
            "replicas": {name: state.value for name, state in sorted(item.replicas.items())},
        }
        for item in found
    ]
    return web.json_response({"versions": rows}, headers={"Cache-Control": "no-store"})
