"""Which references a row can hold, and which of them begin with a prefix."""

from gateway.catalog.tables import REFERENCE_BYTES

_LAST = "\U0010ffff"


def storable(reference: str) -> bool:
    """Tell whether both databases can keep this text: UTF-8 without NUL, not empty, not too long."""
    return "\0" not in reference and 0 < len(_utf8(reference)) <= REFERENCE_BYTES


def searchable(text: str) -> bool:
    """Tell whether both databases can compare with this text."""
    return "\0" not in text and (not text or bool(_utf8(text)))


def beyond(prefix: str) -> str | None:
    """Return the least text above everything that begins with `prefix`; None: nothing is."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following == 0xD800:  # noqa: PLR2004  no text has surrogates
        following = 0xE000
    return stem[:-1] + chr(following)


def _utf8(text: str) -> bytes:
    """Return nothing for a text with lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""
