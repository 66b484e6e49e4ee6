"""Spans of time as people write and read them: `90d`, `12h`, `30m`, `45s`. Nothing finer, no sums."""

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"([0-9]{1,6})([dhms])")


def parse(text: str) -> timedelta:
    """Return the span that a text names. Raises ValueError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError("a span is a whole number with d, h, m or s behind it: 90d, 12h")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def text(span: timedelta) -> str:
    """Return a span in the largest unit of which it has at least two, or is a whole number."""
    seconds = int(span.total_seconds())
    for unit, size in _UNITS.items():
        if seconds >= size and (seconds % size == 0 or seconds >= 2 * size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
