"""Conditional requests (RFC 9110, section 13) over strong ETags.

An ETag is the quoted version id: content never changes under a version, so it is strong, and the
catalog knows it without asking a store. A date is never strong here, because two versions may come
within one second: `If-Range` with a date gets the whole content.
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from multidict import CIMultiDictProxy

from gateway.attachments.dated import second
from gateway.errors import Invalid, PreconditionFailed
from gateway.model import Precondition, Version

_TAGS = re.compile(r'[\s,]*(?:(W/)?"([\x21\x23-\x7e\x80-\uffff]*)"\s*(?:,|$)[\s,]*)')


def etag(version: Version) -> str:
    """Return the ETag of a version, quoted."""
    return f'"{version.id}"'


def modified(version: Version) -> str:
    """Return the Last-Modified of a version."""
    return format_datetime(version.created.astimezone(UTC), usegmt=True)


def _list(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """Return a field that holds a list, its lines joined, or None when it was not sent."""
    lines = headers.getall(name, [])
    return ", ".join(lines).strip() if lines else None


def _tags(value: str) -> tuple[list[str], list[str]]:
    """Return the strong and the weak tags of a list. Raises Invalid."""
    strong: list[str] = []
    weak: list[str] = []
    position = 0
    while position < len(value):
        match = _TAGS.match(value, position)
        if match is None:
            raise Invalid('an ETag is quoted, as in If-Match: "…"')
        (weak if match[1] else strong).append(match[2])
        position = match.end()
    return strong, weak


def for_change(headers: CIMultiDictProxy[str]) -> Precondition:
    """Read If-Match and If-None-Match of a PUT, POST or DELETE. Raises Invalid."""
    must_exist: bool | None = None
    versions: frozenset[str] | None = None
    match = _list(headers, "If-Match")
    none_match = _list(headers, "If-None-Match")
    if match == "*":
        must_exist = True
    elif match is not None:
        versions = frozenset(_tags(match)[0])  # strong comparison: a weak tag never matches
    if none_match is not None:
        if none_match != "*" or match is not None:
            raise Invalid("when writing, If-None-Match takes * only, and no If-Match beside it")
        must_exist = False
    return Precondition(must_exist=must_exist, versions=versions)


def unmodified_since(headers: CIMultiDictProxy[str]) -> datetime | None:
    """Return the date of If-Unmodified-Since when it counts: If-Match goes before it."""
    return None if "If-Match" in headers else _date(headers.get("If-Unmodified-Since"))


def not_modified(headers: CIMultiDictProxy[str], version: Version) -> bool:
    """Judge the conditions of a GET or HEAD: True for 304. Raises PreconditionFailed and Invalid."""
    match = _list(headers, "If-Match")
    if match is not None and match != "*" and version.id not in _tags(match)[0]:
        raise PreconditionFailed("the current version is another one")
    limit = unmodified_since(headers)
    if limit is not None and second(version) > limit:
        raise PreconditionFailed("the version is newer than If-Unmodified-Since")
    none_match = _list(headers, "If-None-Match")
    if none_match is not None:
        strong, weak = ([], []) if none_match == "*" else _tags(none_match)
        return none_match == "*" or version.id in strong or version.id in weak
    since = _date(headers.get("If-Modified-Since"))
    return since is not None and second(version) <= since


def range_applies(headers: CIMultiDictProxy[str], version: Version) -> bool:
    """Judge If-Range: only the strong tag of the version lets a range through."""
    value = headers.get("If-Range")
    return value is None or value.strip() == etag(version)


def _date(value: str | None) -> datetime | None:
    """Return an HTTP date, or None: one that does not parse is ignored (RFC 9110, section 13.1)."""
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
