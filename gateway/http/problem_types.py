"""The one table from error type to status and stable problem type; `docs/api.md` explains each row.

Every error of the gateway and of the key service's client stands here itself: a test refuses an error
class without a row, and a row without documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway import errors
from gateway.targets.quorum import QuorumLost
from keyservice import wire


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of answer: HTTP status, the last part of its stable `type`, and its title."""

    status: int
    slug: str
    title: str


INTERNAL = Problem(500, "internal", "Internal error")
FAILED = frozenset({500})  # answers that say nothing more: the fault is ours, and in the log
_INVALID = Problem(400, "invalid-request", "The request is malformed")
_STORE = Problem(503, "store-unavailable", "A store does not answer")
_CATALOG = Problem(503, "catalog-unavailable", "The catalog does not answer")
_KEYS = Problem(502, "key-service", "The key service does not understand this gateway")

PROBLEMS: Mapping[type[Exception], Problem] = {
    errors.Invalid: _INVALID,
    errors.DigestMismatch: Problem(400, "digest-mismatch", "The body has another digest"),
    errors.Disconnected: Problem(400, "incomplete-body", "The body ended early"),
    errors.Unauthorized: Problem(401, "unauthorized", "A valid token is needed"),
    errors.Forbidden: Problem(403, "forbidden", "The token does not allow this"),
    errors.NotFound: Problem(404, "not-found", "There is no such thing"),
    errors.TooSlow: Problem(408, "too-slow", "The client was too slow"),
    errors.OperationRunning: Problem(409, "operation-running", "The first request still runs"),
    errors.ReferenceTaken: Problem(409, "reference-taken", "Another attachment has the id"),
    errors.Held: Problem(409, "held", "A legal hold forbids this"),
    errors.PreconditionFailed: Problem(412, "precondition-failed", "The precondition fails"),
    errors.TooLarge: Problem(413, "too-large", "The body is too large"),
    errors.UnsupportedEncoding: Problem(415, "unsupported-encoding", "The body is encoded"),
    errors.RangeInvalid: Problem(416, "range-not-satisfiable", "The range lies outside"),
    errors.OperationDiffers: Problem(422, "idempotency-mismatch", "The key was used before"),
    errors.Busy: Problem(503, "busy", "As many streams run as may"),
    errors.Unreadable: Problem(503, "unreadable", "No target can serve this version"),
    errors.StoreFull: Problem(507, "store-full", "A store has no room left"),
    errors.StoreError: _STORE,
    errors.StoreUnavailable: _STORE,
    errors.StoreDenied: _STORE,
    errors.StoreDamaged: _STORE,
    errors.ObjectMissing: _STORE,
    errors.ObjectExists: _STORE,
    errors.CatalogError: _CATALOG,
    errors.CatalogUnavailable: _CATALOG,
    errors.CatalogConflict: Problem(503, "catalog-conflict", "The catalog changed meanwhile"),
    errors.UploadLost: Problem(503, "upload-lost", "The upload was given up meanwhile"),
    errors.PlacementChanged: Problem(503, "placement-changed", "The primary changed meanwhile"),
    errors.RunLost: INTERNAL,
    errors.DutyFailed: INTERNAL,
    errors.GatewayError: INTERNAL,
    QuorumLost: Problem(503, "quorum-lost", "Too few stores can hold the upload"),
    wire.Denied: Problem(403, "key-denied", "The key service refuses this use"),
    wire.Suspended: Problem(403, "tenant-suspended", "The tenant is suspended"),
    wire.SuspendedByOwner: Problem(
        403, "suspended-by-owner", "The owner of the tenant's key withdrew it"
    ),
    wire.Shredding: Problem(
        403, "tenant-shredding", "The tenant's keys are ordered to be destroyed"
    ),
    wire.Shredded: Problem(410, "tenant-shredded", "The tenant's keys are destroyed"),
    wire.UnknownTenant: Problem(404, "tenant-unknown", "The key service does not know the tenant"),
    wire.Throttled: Problem(429, "throttled", "Too many key requests"),
    wire.CannotUnwrap: Problem(500, "key-damaged", "The data key does not open"),
    wire.Unavailable: Problem(503, "keys-unavailable", "The key service is not available"),
    wire.Altered: Problem(
        503, "keys-altered", "The tenant's key record was altered; it is not used"
    ),
    wire.WrongState: _KEYS,
    wire.Unauthenticated: _KEYS,
    wire.Invalid: _KEYS,
    wire.TooLarge: _KEYS,
    wire.KeyServiceError: _KEYS,
}

ROUTING: Mapping[int, Problem] = {
    400: Problem(400, "malformed", "This is not HTTP as the gateway speaks it"),
    404: Problem(404, "no-route", "There is nothing at this path"),
    405: Problem(405, "method-not-allowed", "The method does not apply here"),
    413: Problem(413, "too-large", "The body is too large"),
    417: Problem(417, "expectation-failed", "The expectation is not known"),
    431: Problem(431, "fields-too-large", "The request line or a field is too long"),
    501: Problem(501, "transfer-coding", "The transfer coding is not known"),
}
"""What the HTTP layer refuses by itself, before any use case."""
