"""Values of a JSON body's fields: numbers and times, or null. What is something else is Invalid."""

from datetime import UTC, datetime
from typing import Any

from gateway.errors import Invalid


def number(body: dict[str, Any], name: str, *, most: int = 10**9) -> int | None:
    """Return a whole number below `most`; None for null, and where there is no such field."""
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Invalid(f"{name} is a whole number or null")
    if value is not None and abs(value) >= most:
        raise Invalid(f"{name} is far too large")
    return value


def moment(body: dict[str, Any], name: str) -> datetime | None:
    """Return a time with a zone; None for null, and where there is no such field."""
    value = body.get(name)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        found.astimezone(UTC)  # in which it is kept
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise Invalid(f"{name} is a time with a zone, such as 2030-01-01T00:00:00+00:00, or null")
    return found
