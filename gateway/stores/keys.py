"""Which names an object may have. Every adapter checks a key before it does anything with it.

Names are made by the gateway itself out of random ids, so a refused one is a mistake of ours or an
attack; either way nothing outside a store's own folder or bucket prefix can be reached through it.
"""

import re

from gateway.errors import StoreDenied

LONGEST = 200  # leaves room for a folder's temporary names below the 255 bytes of most file systems

_KEY = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+)*")
_PREFIX = re.compile(r"(?:[a-z0-9]+/)*[a-z0-9]*")


def checked_key(key: str) -> str:
    """Return `key` if it is words of `[a-z0-9]` between single slashes. Raises StoreDenied."""
    if not possible(key):
        raise StoreDenied("an object's key must be words of a-z and 0-9 between single slashes")
    return key


def possible(key: str) -> bool:
    """Tell whether an object of ours can have this key: what has another one is somebody else's."""
    return len(key) <= LONGEST and _KEY.fullmatch(key) is not None


def checked_prefix(prefix: str) -> str:
    """Return `prefix` if some key can begin with it. Raises StoreDenied."""
    if len(prefix) > LONGEST or not _PREFIX.fullmatch(prefix):
        raise StoreDenied("a prefix must be words of a-z and 0-9 between single slashes")
    return prefix


def checked_range(start: int, stop: int | None) -> None:
    """Refuse a range that no object can answer. Raises StoreDenied."""
    if start < 0 or (stop is not None and stop < start):
        raise StoreDenied("a range must begin at 0 or later and must not end before it begins")
