"""The routes that change one attachment, PUT, POST and DELETE, and the list of its versions.

Guarantees that nothing of a body is read before the request is authorised and its preconditions hold.
The rules are the use cases'; only HTTP is here.
"""

import hashlib
import json
from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.attachments.dated import pinned
from gateway.attachments.uploads import Draft, Receipt
from gateway.errors import Invalid, NotFound
from gateway.http import conditions, disposition, fields
from gateway.http.entry import enter
from gateway.http.paging import FRESH, after, cursor_of, limit_of
from gateway.http.requests import (
    body_of,
    length_of,
    reference_of,
    request_id,
    tenant_of,
)
from gateway.http.services import services
from gateway.model import Found, Precondition, Right, new_id

_MAX_KEY = 255


async def put(request: web.Request) -> web.StreamResponse:
    """Store the body as the new current version of the attachment in the path."""
    tenant, reference = tenant_of(request), reference_of(request)
    await enter(request, Right.WRITE, tenant)
    return await _store(request, tenant, reference)


async def post(request: web.Request) -> web.StreamResponse:
    """Store the body as a new attachment under an id that the gateway assigns."""
    tenant = tenant_of(request)
    await enter(request, Right.WRITE, tenant)
    return await _store(request, tenant, new_id())


async def _store(request: web.Request, tenant: str, reference: str) -> web.StreamResponse:
    serving = services(request)
    draft = Draft(
        tenant=tenant,
        reference=reference,
        name=disposition.file_name(request.headers.get("Content-Disposition")),
        content_type=fields.content_type(request.headers),
        user=fields.metadata(request.headers),
        digests=fields.digests(request.headers),
        wanted=fields.wanted(request.headers),
        length=length_of(request),
        precondition=conditions.for_change(request.headers),
        unmodified_since=conditions.unmodified_since(request.headers),
        request_id=request_id(request),
    )
    with serving.admission.stream(tenant):
        async with aclosing(body_of(request, serving.pace())) as body:
            receipt, replayed = await _run(request, draft, body)
    if not replayed:
        serving.metrics.received.inc(receipt.version.size)
        for name in receipt.missed:
            serving.metrics.missing.labels(name).inc()
        if receipt.degraded:
            serving.metrics.degraded.inc()
            serving.metrics.degraded_last.set_to_current_time()
    return _receipt(receipt, replayed=replayed)


async def _run(
    request: web.Request, draft: Draft, body: AsyncIterable[bytes | memoryview]
) -> tuple[Receipt, bool]:
    """Store the body, once if the client gave a key; tell whether it is a repetition."""
    serving, keys = services(request), request.headers.getall("Idempotency-Key", [])
    if not keys:
        return await serving.uploads.store(draft, body), False
    key = keys[0] if len(keys) == 1 else ""
    if not 0 < len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        raise Invalid(f"one Idempotency-Key has 1 to {_MAX_KEY} printable characters")
    return await serving.operations.store_once(
        draft, body, key=key, fingerprint=_fingerprint(request, draft)
    )


async def _precondition(request: web.Request, tenant: str, reference: str) -> Precondition:
    """Return what must hold when the change is made. Raises Invalid and PreconditionFailed."""
    asked = conditions.for_change(request.headers)
    limit = conditions.unmodified_since(request.headers)
    if limit is None:
        return asked
    try:
        found = await services(request).catalog.find(tenant, reference)
    except NotFound:
        return asked  # a date says nothing of what is not there
    return pinned(asked, found.version, limit)


def _fingerprint(request: web.Request, draft: Draft) -> bytes:
    """Return what makes two requests the same, besides their bodies: these are compared apart."""
    said: list[Any] = [
        request.method,
        draft.reference if request.method == "PUT" else None,
        draft.name,
        draft.content_type,
        sorted(draft.user.items()),
        [request.headers.getall(name, []) for name in ("If-Match", "If-None-Match")],
        request.headers.get("If-Unmodified-Since"),
    ]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _receipt(receipt: Receipt, *, replayed: bool) -> web.Response:
    version, reference = receipt.version, receipt.attachment.reference
    body = {
        "attachment": reference,
        "version": version.id,
        "size": version.size,
        "created": version.created.isoformat(),
        "digests": fields.digest_texts(receipt.digests),
        "stored": sorted(receipt.stored),
        "degraded": receipt.degraded,
    }
    headers = {
        "ETag": conditions.etag(version),
        "Location": f"/v1/tenants/{version.tenant}/attachments/{quote(reference, safe='')}",
        "Sealgate-Stored": ", ".join(sorted(receipt.stored)),
        "Sealgate-Version": version.id,
        "Cache-Control": "no-store",
    }
    if receipt.degraded:
        headers["Sealgate-Degraded"] = "true"
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return web.json_response(body, status=201, headers=headers)


async def delete(request: web.Request) -> web.StreamResponse:
    """Move the attachment to the trash."""
    serving = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await enter(request, Right.DELETE, tenant)
    await serving.trash.put(tenant, reference, await _precondition(request, tenant, reference))
    return web.Response(status=204)


async def versions(request: web.Request) -> web.StreamResponse:
    """List the attachment's versions, newest first, page by page."""
    serving = services(request)
    tenant, reference = tenant_of(request), reference_of(request)
    await enter(request, Right.READ, tenant)
    limit = limit_of(request)
    found = await serving.catalog.versions(tenant, reference, after(request), limit + 1)
    more = found[limit - 1].version.id if len(found) > limit else None
    shown = [_version(item) for item in found[:limit]]
    return web.json_response({"versions": shown, "cursor": cursor_of(more)}, headers=FRESH)


def _version(item: Found) -> dict[str, Any]:
    return {
        "version": item.version.id,
        "size": item.version.size,
        "etag": conditions.etag(item.version),
        "created": item.version.created.isoformat(),
        "current": item.current,
        "replicas": {name: state.value for name, state in sorted(item.replicas.items())},
    }
