"""The parts that the OpenAPI document is put together from: schemas, parameters, header fields."""

from typing import Any

from gateway.attachments.tenants import TIERS
from gateway.attachments.trash import MIN_DAYS
from gateway.http.paging import DEFAULT_PAGE, MAX_PAGE
from gateway.http.tokens import DEFAULT_DAYS, MAX_DAYS
from gateway.model import ReplicaState, Right

Part = dict[str, Any]
TEXT: Part = {"type": "string"}
ID: Part = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
TIME: Part = {"type": "string", "format": "date-time"}
SIZE: Part = {"type": "integer", "minimum": 0, "description": "plaintext bytes"}
ETAG: Part = {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}
CURSOR: Part = {"type": ["string", "null"], "description": "where to go on; null at the end"}
RIGHTS: Part = {
    "type": "array",
    "items": {"type": "string", "enum": sorted(right.value for right in Right)},
    "minItems": 1,
}
TOKEN: Part = {
    "token": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "its public id"},
    "tenant": {"anyOf": [ID, {"type": "null"}]},
    "rights": RIGHTS,
    "created": TIME,
    "expires": {"anyOf": [TIME, {"type": "null"}]},
}

QUORUM: Part = {
    "type": ["string", "null"],
    "description": "who acknowledges uploads, such as majority,regions:2; null: as configured",
}


def _object(properties: Part, *optional: str, closed: bool = True) -> Part:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": not closed,
    }


def _list(name: str, row: str, *, cursor: bool) -> Part:
    rows: Part = {
        name: {"type": "array", "items": {"$ref": f"#/components/schemas/{row}"}},
    }
    return _object({**rows, "cursor": CURSOR} if cursor else rows)


_SPAN: Part = {"type": ["integer", "null"], "minimum": 0}
ROTATION: Part = _object(
    {
        "kek_every_seconds": {**_SPAN, "description": "0: never; null: as configured"},
        "root_every_seconds": {**_SPAN, "description": "0: never; null: as configured"},
    },
    "kek_every_seconds",
    "root_every_seconds",
)
SCHEMAS: Part = {
    "Problem": _object(
        {
            "type": {"type": "string", "pattern": "^urn:sealgate:problem:[a-z0-9-]+$"},
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": TEXT,
            "instance": {"type": "string", "pattern": "^urn:sealgate:request:"},
        },
        "detail",
    ),
    "Receipt": _object(
        {
            "attachment": TEXT,
            "version": ID,
            "size": SIZE,
            "created": TIME,
            "digests": {
                "type": "object",
                "description": "base64, of the algorithms declared or wanted",
                "properties": {"sha-256": TEXT, "sha-512": TEXT},
                "additionalProperties": False,
            },
            "stored": {
                "type": "array",
                "items": TEXT,
                "description": "the targets that hold it now",
            },
            "degraded": {
                "type": "boolean",
                "description": "whether these are fewer than the tenant's quorum",
            },
        }
    ),
    "Attachment": _object(
        {
            "attachment": TEXT,
            "version": ID,
            "size": SIZE,
            "etag": ETAG,
            "created": TIME,
            "name": {"type": ["string", "null"]},
            "content_type": {"type": ["string", "null"]},
            "metadata": {"type": "object", "additionalProperties": TEXT},
            "error": {"type": "string", "description": "why the name could not be opened"},
        },
        "name",
        "content_type",
        "metadata",
        "error",
    ),
    "Attachments": _list("attachments", "Attachment", cursor=True),
    "Version": _object(
        {
            "version": ID,
            "size": SIZE,
            "etag": ETAG,
            "created": TIME,
            "current": {"type": "boolean"},
            "replicas": {
                "type": "object",
                "description": "target: what is known of it there",
                "additionalProperties": {"type": "string", "enum": [s.value for s in ReplicaState]},
            },
        }
    ),
    "Versions": _list("versions", "Version", cursor=True),
    "Trashed": _object(
        {
            "trashed": {**ID, "description": "its id in the trash"},
            "attachment": TEXT,
            "version": ID,
            "size": SIZE,
            "etag": ETAG,
            "created": TIME,
            "deleted": TIME,
            "kept_until": {**TIME, "description": "it can come back until then at least"},
            "name": {"type": ["string", "null"]},
            "content_type": {"type": ["string", "null"]},
            "metadata": {"type": "object", "additionalProperties": TEXT},
            "error": {"type": "string", "description": "why the name could not be opened"},
        },
        "name",
        "content_type",
        "metadata",
        "error",
    ),
    "Trash": _list("trash", "Trashed", cursor=True),
    "Retention": _object(
        {
            "trash_days": {"type": "integer", "minimum": MIN_DAYS, "default": MIN_DAYS},
            "keep_versions": {
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "how many replaced versions are kept; null: no such bound",
            },
            "keep_days": {
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "how long replaced versions are kept; null: no such bound",
            },
            "hold_until": {
                "anyOf": [TIME, {"type": "null"}],
                "description": "nothing is purged before",
            },
        },
        "trash_days",
        "keep_versions",
        "keep_days",
        "hold_until",
    ),
    "Terms": _object(
        {
            "tenant": ID,
            "tier": {"enum": list(TIERS)},
            "created": TIME,
            "quorum": QUORUM,
            "retention": {"$ref": "#/components/schemas/Retention"},
            "rotation": ROTATION,
        }
    ),
    "NewTerms": _object(
        {
            "quorum": QUORUM,
            "retention": {"$ref": "#/components/schemas/Retention"},
            "rotation": ROTATION,
        },
        "quorum",
        "retention",
        "rotation",
    ),
    "Tenant": _object({"tenant": ID, "tier": {"enum": list(TIERS)}, "created": TIME}),
    "Tenants": _list("tenants", "Tenant", cursor=True),
    "NewTenant": _object({"tier": {"enum": list(TIERS), "default": TIERS[0]}}, "tier"),
    "Token": _object(TOKEN),
    "Tokens": _list("tokens", "Token", cursor=False),
    "NewToken": _object(
        {
            "rights": RIGHTS,
            "days": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_DAYS,
                "default": DEFAULT_DAYS,
            },
        },
        "days",
    ),
    "Grant": _object(
        {**TOKEN, "text": {"type": "string", "description": "the token itself, shown this once"}}
    ),
}


def _parameter(name: str, place: str, text: str, schema: Part | None = None) -> Part:
    parameter: Part = {"name": name, "in": place, "description": text, "schema": schema or TEXT}
    return {**parameter, "required": True} if place == "path" else parameter


PARAMETERS: Part = {
    "tenant": _parameter("tenant", "path", "a tenant's id", ID),
    "attachment": _parameter(
        "attachment",
        "path",
        "an id of the caller's choice: 1 to 1024 bytes of UTF-8 without control characters,"
        " percent-encoded, and not one or two dots alone",
        {"type": "string", "minLength": 1, "maxLength": 1024},
    ),
    "trashed": _parameter("trashed", "path", "an id that the trash's listing gave", ID),
    "token": _parameter("token", "path", "a token's public id", TOKEN["token"]),
    "version": _parameter("version", "query", "an older version instead of the current one", ID),
    "limit": _parameter(
        "limit",
        "query",
        "rows of a page",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    ),
    "cursor": _parameter("cursor", "query", "the `cursor` of the page before"),
    "prefix": _parameter("prefix", "query", "only ids that begin like this"),
    "names": _parameter(
        "names",
        "query",
        "false leaves out names, types and metadata, and asks the key service for nothing",
        {"type": "boolean", "default": True},
    ),
    "If-Match": _parameter("If-Match", "header", "`*` or strong ETags"),
    "If-None-Match": _parameter("If-None-Match", "header", "`*`; when reading also ETags"),
    "If-Modified-Since": _parameter("If-Modified-Since", "header", "an HTTP date"),
    "If-Unmodified-Since": _parameter("If-Unmodified-Since", "header", "an HTTP date"),
    "If-Range": _parameter("If-Range", "header", "a strong ETag"),
    "Range": _parameter("Range", "header", "`bytes=` and one or more ranges"),
    "Repr-Digest": _parameter("Repr-Digest", "header", "verified: `sha-256=:…:`, `sha-512=:…:`"),
    "Content-Digest": _parameter("Content-Digest", "header", "verified like Repr-Digest"),
    "Want-Repr-Digest": _parameter("Want-Repr-Digest", "header", "digests to compute and keep"),
    "Content-Disposition": _parameter(
        "Content-Disposition", "header", "the file name, as `filename*` or `filename`"
    ),
    "Idempotency-Key": _parameter(
        "Idempotency-Key",
        "header",
        "makes a repetition safe",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    "X-Request-Id": _parameter(
        "X-Request-Id",
        "header",
        "taken for the logs and sent back when it is a plain word",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    ),
}


def _header(text: str, schema: Part | None = None) -> Part:
    return {"description": text, "schema": schema or TEXT}


HEADERS: Part = {
    "X-Request-Id": _header("the id of this request in the logs"),
    "ETag": _header("the quoted version id, strong", ETAG),
    "Last-Modified": _header("when the version was stored"),
    "Accept-Ranges": _header("always `bytes`"),
    "Content-Range": _header("which bytes of how many"),
    "Content-Disposition": _header("always `attachment`, with the file name if there is one"),
    "Repr-Digest": _header("of the whole content, if one was declared or wanted"),
    "Content-Digest": _header("the same, when the whole content is sent"),
    "Sealgate-Version": _header("the version id", ID),
    "Sealgate-Stored": _header("the targets that hold it now"),
    "Sealgate-Degraded": _header("`true` when fewer targets hold it than the tenant's quorum"),
    "Location": _header("where the new thing is"),
    "Idempotency-Replayed": _header("`true` when this is the answer of an earlier request"),
    "Retry-After": _header("seconds to wait", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": _header("how to authenticate"),
}
