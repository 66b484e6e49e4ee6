"""From an error to an HTTP answer and back: the one table."""

from __future__ import annotations

from keyservice.errors import (
    Altered,
    CannotUnwrap,
    Conflict,
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    SuspendedByOwner,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownTenant,
    WrongState,
)
from keyservice.protocol.messages import Problem
from keyservice.wire import ERRORS

PREFIX = "urn:sealgate:keyservice:"

STATUS: dict[type[KeyServiceError], int] = {
    Invalid: 400,
    Unauthenticated: 401,
    Denied: 403,
    UnknownTenant: 404,
    Shredded: 410,
    TooLarge: 413,
    CannotUnwrap: 422,
    Suspended: 423,
    SuspendedByOwner: 423,
    Shredding: 423,
    WrongState: 409,
    Throttled: 429,
    Unavailable: 503,
    Altered: 503,
    Conflict: 503,
    KeyServiceError: 500,
}


def to_problem(error: KeyServiceError) -> Problem:
    """Return what a caller is told about the error."""
    return Problem(
        type=PREFIX + error.code,
        status=_status(error),
        detail=str(error),
        retry_after=error.retry_after,
    )


def _status(error: KeyServiceError) -> int:
    """Return the status of the nearest class in the table: adapters have finer ones of their own."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def from_problem(problem: Problem) -> KeyServiceError:
    """Return the error that the other side met; an unknown type becomes a plain one."""
    kind = ERRORS.get(problem.type.removeprefix(PREFIX), KeyServiceError)
    return kind(problem.detail, retry_after=problem.retry_after)
