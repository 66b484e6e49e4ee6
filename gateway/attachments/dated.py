"""Versions and the dates of HTTP, which know whole seconds only."""

from dataclasses import replace
from datetime import UTC, datetime

from gateway.errors import PreconditionFailed
from gateway.model import Precondition, Version


def second(version: Version) -> datetime:
    """Return the second in which a version was created."""
    return version.created.astimezone(UTC).replace(microsecond=0)


def pinned(precondition: Precondition, version: Version, limit: datetime) -> Precondition:
    """Turn a date into a demand that holds until the change: that this very version is current.

    Raises PreconditionFailed when the version is newer than the date.
    """
    if second(version) > limit:
        raise PreconditionFailed("the current version is newer than If-Unmodified-Since")
    return replace(precondition, versions=frozenset({version.id}))
