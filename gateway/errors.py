"""Every error a use case can end with, as one tree; `http.problems` maps each to a status.

Texts are lower-case fragments that name the thing and what to do. They never hold a key, a token,
plaintext, or a name that a user chose.
"""

from collections.abc import Mapping


class GatewayError(Exception):
    """Base of every error that the gateway raises on purpose."""

    retry_after: float | None = None

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        if retry_after is not None:
            self.retry_after = retry_after


def first(error: BaseException) -> BaseException:
    """Return the first error of a group, however deep; an error that is none, itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class StoreError(GatewayError):
    """Base of what a store can answer. Adapters raise nothing else."""


class ObjectMissing(StoreError):
    """The store has no object under that key."""


class ObjectExists(StoreError):
    """The key is taken: objects are created once and never overwritten."""


class StoreUnavailable(StoreError):
    """The store did not answer, answered 5xx or asked to slow down. Worth another try."""


class StoreDenied(StoreError):
    """The store refused the credentials or the right. Trying again will not help."""


class StoreFull(StoreError):
    """The store has no room left."""


class StoreDamaged(StoreError):
    """The bytes that arrived are not the bytes that were sent (checksum, digest or length).

    `reason` is one word for what was found: `damaged`, `flipped`, `short`, `long`, `replayed`, `swapped`.
    """

    def __init__(
        self, detail: str = "", *, reason: str = "damaged", retry_after: float | None = None
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.reason = reason


class CatalogError(GatewayError):
    """Base of what the catalog can answer. Adapters raise nothing else."""


class CatalogUnavailable(CatalogError):
    """The database did not answer in time or lost the connection."""


class CatalogConflict(CatalogError):
    """The row exists already, or changed in the meantime."""


class UploadLost(CatalogError):
    """The upload is no longer open: it was reaped or taken over, so it cannot commit."""


class PlacementChanged(CatalogError):
    """Another target became the primary while the upload ran: its quorum no longer counts."""

    retry_after = 1.0


class RunLost(GatewayError):
    """A run of periodic work belongs to another worker now: whoever had it stops at once."""


class DutyFailed(GatewayError):
    """A duty came to its end and found what must not be; `outcome` is its report."""

    def __init__(self, detail: str, outcome: Mapping[str, object]) -> None:
        super().__init__(detail)
        self.outcome = outcome


class NotFound(GatewayError):
    """No such tenant, attachment or version, or it is in the trash."""


class PreconditionFailed(GatewayError):
    """`If-Match` or `If-None-Match` does not hold of the current version."""


class ReferenceTaken(GatewayError):
    """A live attachment has the id of the one that is to come back."""


class Held(GatewayError):
    """A legal hold forbids to purge."""


class Invalid(GatewayError):
    """The request is malformed; the text says which part of it and what is expected."""


class Unauthorized(GatewayError):
    """No token, or one that is unknown, wrong, or expired."""


class Forbidden(GatewayError):
    """The token is good, but not for this tenant or not for this right."""


class TooLarge(GatewayError):
    """The body is larger than this gateway accepts."""


class DigestMismatch(GatewayError):
    """The body does not have the digest that the client declared."""


class Disconnected(GatewayError):
    """The client went away, or stopped sending, before the body was complete."""


class OperationRunning(GatewayError):
    """Another request with the same idempotency key has not finished."""

    retry_after = 2.0


class OperationDiffers(GatewayError):
    """The idempotency key was used before for another request."""


class Unreadable(GatewayError):
    """No target could give authentic bytes of this version."""


class UnsupportedEncoding(GatewayError):
    """The body carries a Content-Encoding; the gateway stores bytes as they are."""


class RangeInvalid(GatewayError):
    """No requested range lies within the content, which has `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no requested range lies within the {size} bytes")
        self.size = size


class Busy(GatewayError):
    """As many streams run, or hold as much memory, as may; nothing of this request is kept."""

    retry_after = 1.0


class TooSlow(GatewayError):
    """The client sent or took less than the minimum rate for too long."""
