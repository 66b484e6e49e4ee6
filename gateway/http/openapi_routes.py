"""What the OpenAPI document says of each route: parameters, bodies, answers and problems.

The summary of a route is the first line of its handler's docstring. A test holds this table and the
routes together, both ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model import Right

ONE = "/v1/tenants/{tenant}"
ATTACHMENT = ONE + "/attachments/{attachment}"
TRASH = ONE + "/trash"
ANY = "*/*"
JSON = "application/json"
PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its media type (None: no content), schema and fields."""

    text: str
    media: tuple[str, ...] = ()
    schema: str | None = None
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `body` is a schema, or ANY for bytes; `problems` are slugs."""

    id: str
    tag: str
    right: Right | None
    answers: Mapping[int, Answer]
    problems: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    body: str | None = None
    required: bool = False


AUTHORIZED = (
    "invalid-request",
    "unauthorized",
    "forbidden",
    "catalog-unavailable",
    "internal",
)
SHUT = (
    "key-denied",
    "tenant-suspended",
    "suspended-by-owner",
    "tenant-shredding",
    "tenant-shredded",
    "keys-altered",
)
KEYED = (
    *SHUT,
    "tenant-unknown",
    "throttled",
    "key-service",
    "keys-unavailable",
)
_OPEN = ("invalid-request", "internal")
_PATH = ("tenant", "attachment")
_CHANGE = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_UPLOAD = (
    "Content-Disposition",
    "Repr-Digest",
    "Content-Digest",
    "Want-Repr-Digest",
    "Idempotency-Key",
)
_STORED = {
    201: Answer(
        "stored on enough targets",
        (JSON,),
        "Receipt",
        (
            "ETag",
            "Location",
            "Sealgate-Version",
            "Sealgate-Stored",
            "Sealgate-Degraded",
            "Idempotency-Replayed",
        ),
    )
}
_UPLOAD_PROBLEMS = (
    *AUTHORIZED,
    *KEYED,
    "digest-mismatch",
    "incomplete-body",
    "not-found",
    "too-slow",
    "operation-running",
    "precondition-failed",
    "too-large",
    "unsupported-encoding",
    "idempotency-mismatch",
    "expectation-failed",
    "transfer-coding",
    "busy",
    "catalog-conflict",
    "upload-lost",
    "placement-changed",
    "quorum-lost",
    "store-full",
    "key-damaged",  # as a repetition, which opens what the first request stored
    "unreadable",
)
_READ_PROBLEMS = (
    *AUTHORIZED,
    *KEYED,
    "not-found",
    "precondition-failed",
    "range-not-satisfiable",
    "key-damaged",
    "busy",
    "unreadable",
)
_VALIDATORS = ("ETag", "Last-Modified", "Accept-Ranges", "Sealgate-Version")
_DESCRIBED = (*_VALIDATORS, "Content-Disposition", "Repr-Digest")
_READ = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_UNCHANGED = Answer("the client has it already", headers=_VALIDATORS)
_PAGED = ("limit", "cursor")
_JSON_PROBLEMS = (
    "too-large",
    "too-slow",
    "incomplete-body",
    "unsupported-encoding",
    "expectation-failed",
    "transfer-coding",
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/livez"): Operation("livez", "probes", None, {200: Answer("alive", (PLAIN,))}, _OPEN),
    ("GET", "/readyz"): Operation(
        "readyz",
        "probes",
        None,
        {
            200: Answer("ready; one line a dependency", (PLAIN,)),
            503: Answer("not ready, or draining; one line a dependency", (PLAIN,)),
        },
        _OPEN,
    ),
    ("GET", "/metrics"): Operation(
        "metrics", "probes", None, {200: Answer("figures", (PLAIN,))}, _OPEN
    ),
    ("GET", "/openapi.json"): Operation(
        "openapi", "probes", None, {200: Answer("this document", (JSON,))}, _OPEN
    ),
    ("POST", "/v1/tenants"): Operation(
        "createTenant",
        "tenants",
        Right.ADMIN,
        {201: Answer("created", (JSON,), "Tenant", ("Location",))},
        (*AUTHORIZED, *KEYED, *_JSON_PROBLEMS, "catalog-conflict"),
        body="NewTenant",
    ),
    ("GET", "/v1/tenants"): Operation(
        "listTenants",
        "tenants",
        Right.ADMIN,
        {200: Answer("a page of tenants", (JSON,), "Tenants")},
        AUTHORIZED,
        _PAGED,
    ),
    ("GET", ONE): Operation(
        "showTenant",
        "tenants",
        Right.ADMIN,
        {200: Answer("the tenant, and what holds for it", (JSON,), "Terms")},
        (*AUTHORIZED, "not-found"),
        ("tenant",),
    ),
    ("PATCH", ONE): Operation(
        "changeTenant",
        "tenants",
        Right.ADMIN,
        {200: Answer("as it is now", (JSON,), "Terms")},
        (*AUTHORIZED, *_JSON_PROBLEMS, "not-found"),
        ("tenant",),
        body="NewTerms",
        required=True,
    ),
    ("POST", ONE + "/tokens"): Operation(
        "createToken",
        "tokens",
        Right.ADMIN,
        {201: Answer("created; its text is shown this once", (JSON,), "Grant")},
        (*AUTHORIZED, *_JSON_PROBLEMS, "not-found", "catalog-conflict"),
        ("tenant",),
        body="NewToken",
        required=True,
    ),
    ("GET", ONE + "/tokens"): Operation(
        "listTokens",
        "tokens",
        Right.ADMIN,
        {200: Answer("the tenant's tokens", (JSON,), "Tokens")},
        (*AUTHORIZED, "not-found"),
        ("tenant",),
    ),
    ("DELETE", ONE + "/tokens/{token}"): Operation(
        "revokeToken",
        "tokens",
        Right.ADMIN,
        {204: Answer("revoked")},
        (*AUTHORIZED, "not-found"),
        ("tenant", "token"),
    ),
    ("GET", ONE + "/attachments"): Operation(
        "listAttachments",
        "attachments",
        Right.READ,
        {200: Answer("a page of attachments", (JSON,), "Attachments")},
        (*AUTHORIZED, *KEYED, "not-found", "unreadable"),
        ("tenant", *_PAGED, "prefix", "names"),
    ),
    ("POST", ONE + "/attachments"): Operation(
        "storeNew",
        "attachments",
        Right.WRITE,
        _STORED,
        _UPLOAD_PROBLEMS,
        ("tenant", *_UPLOAD),
        body=ANY,
    ),
    ("PUT", ATTACHMENT): Operation(
        "store",
        "attachments",
        Right.WRITE,
        _STORED,
        _UPLOAD_PROBLEMS,
        (*_PATH, *_CHANGE, *_UPLOAD),
        body=ANY,
    ),
    ("GET", ATTACHMENT): Operation(
        "read",
        "attachments",
        Right.READ,
        {
            200: Answer("the content", (ANY,), headers=(*_DESCRIBED, "Content-Digest")),
            206: Answer(
                "one range of it, or several",
                (ANY, "multipart/byteranges"),
                headers=(*_DESCRIBED, "Content-Range"),
            ),
            304: _UNCHANGED,
        },
        _READ_PROBLEMS,
        (*_PATH, "version", *_READ, "Range", "If-Range"),
    ),
    ("HEAD", ATTACHMENT): Operation(
        "describe",
        "attachments",
        Right.READ,
        {
            200: Answer("the fields of a GET", headers=(*_DESCRIBED, "Content-Digest")),
            304: _UNCHANGED,
        },
        tuple(slug for slug in _READ_PROBLEMS if slug != "range-not-satisfiable"),
        (*_PATH, "version", *_READ),
    ),
    ("DELETE", ATTACHMENT): Operation(
        "delete",
        "attachments",
        Right.DELETE,
        {204: Answer("in the trash")},
        (*AUTHORIZED, *SHUT, "not-found", "precondition-failed"),
        (*_PATH, *_CHANGE),
    ),
    ("GET", ATTACHMENT + "/versions"): Operation(
        "listVersions",
        "attachments",
        Right.READ,
        {200: Answer("a page of versions, newest first", (JSON,), "Versions")},
        (*AUTHORIZED, *SHUT, "invalid-request", "not-found"),
        (*_PATH, *_PAGED),
    ),
    ("GET", TRASH): Operation(
        "listTrash",
        "trash",
        Right.READ,
        {200: Answer("a page of the trash", (JSON,), "Trash")},
        (*AUTHORIZED, *KEYED, "not-found", "unreadable"),
        ("tenant", *_PAGED, "names"),
    ),
    ("POST", TRASH + "/{trashed}/undelete"): Operation(
        "undelete",
        "trash",
        Right.DELETE,
        {200: Answer("the attachment, as it was", (JSON,), "Attachment")},
        (*AUTHORIZED, *SHUT, "not-found", "reference-taken"),
        ("tenant", "trashed"),
    ),
    ("DELETE", TRASH + "/{trashed}"): Operation(
        "purge",
        "trash",
        Right.PURGE,
        {202: Answer("out of reach, and being removed")},
        (*AUTHORIZED, *SHUT, "not-found", "held"),
        ("tenant", "trashed"),
    ),
    ("GET", ONE + "/retention"): Operation(
        "showRetention",
        "tenants",
        Right.ADMIN,
        {200: Answer("how long things are kept", (JSON,), "Retention")},
        (*AUTHORIZED, "not-found"),
        ("tenant",),
    ),
    ("PUT", ONE + "/retention"): Operation(
        "setRetention",
        "tenants",
        Right.ADMIN,
        {200: Answer("as it is now", (JSON,), "Retention")},
        (*AUTHORIZED, *_JSON_PROBLEMS, "not-found"),
        ("tenant",),
        body="Retention",
        required=True,
    ),
}
