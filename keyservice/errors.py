"""Every refusal of the key service, as one tree.

The same classes are raised at the ports, by the use cases, and by the client on the other side of
the wire, so that nothing is lost in translation. `code` is the stable name that travels. `Conflict`
stays inside: the use cases resolve it and no caller sees it.
"""

from __future__ import annotations

from typing import ClassVar


class KeyServiceError(Exception):
    """The key service refused or failed; `retry_after` is in seconds, None when it cannot say."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message or self.code)
        self.retry_after = retry_after


class Invalid(KeyServiceError):
    """The request is malformed; the same bytes will never be accepted."""

    code = "invalid"


class TooLarge(Invalid):
    """The request body or batch is larger than the service takes."""

    code = "too-large"


class Denied(KeyServiceError):
    """The policy does not let this caller do this operation for this tenant."""

    code = "denied"


class Unauthenticated(Denied):
    """The caller did not say who it is: no client certificate or development token."""

    code = "unauthenticated"


class UnknownTenant(KeyServiceError):
    """No such tenant has been created."""

    code = "unknown-tenant"


class Suspended(KeyServiceError):
    """The tenant is suspended; nothing is lost, and it can be resumed."""

    code = "suspended"


class SuspendedByOwner(Suspended):
    """The owner of the tenant's root key withdrew it; only they can give it back."""

    code = "suspended-by-owner"


class Shredding(Suspended):
    """The tenant's keys are ordered to be destroyed; until they are, the order can be undone."""

    code = "shredding"


class WrongState(KeyServiceError):
    """The tenant's state, or that of one of its keys, stands against the operation."""

    code = "wrong-state"


class Shredded(KeyServiceError):
    """The tenant's keys are destroyed for good."""

    code = "shredded"


class Throttled(KeyServiceError):
    """The caller spent its rate for this tenant."""

    code = "throttled"


class Unavailable(KeyServiceError):
    """The root, the key store or the audit sink did not answer; the same request may succeed."""

    code = "unavailable"


class Altered(Unavailable):
    """The tenant's record is not as the key service wrote it, or an older one was written back."""

    code = "altered"

    def __init__(
        self,
        message: str = "tenant record was altered or written back in the key store; it is not used",
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)


class CannotUnwrap(KeyServiceError):
    """The wrapped key does not open: one message for every kind of damage or mismatch."""

    code = "cannot-unwrap"

    def __init__(
        self,
        message: str = "wrapped key cannot be opened for this tenant and context",
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)


class Conflict(KeyServiceError):
    """The tenant's record is not at the expected version; read it again and decide anew."""

    code = "conflict"
