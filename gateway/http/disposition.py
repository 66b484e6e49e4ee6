"""The file name in Content-Disposition (RFC 6266), in and out.

Guarantees that a name which was taken in comes out as the same name, and that no name can end the
field or add a parameter. `filename*` (RFC 8187) goes before `filename`.
"""

import re
from urllib.parse import quote, unquote

from gateway.errors import Invalid
from gateway.http.text import is_plain, size_of

MAX_NAME = 1024
_TYPE = re.compile(r"\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*")
_PARAMETER = re.compile(
    r";\s*(?:([!#$%&'+.^_`|~0-9A-Za-z-]+\*?)\s*=\s*"  # name
    r'(?:"((?:[^"\\]|\\.)*)"|([^";]*?)))?\s*(?=;|$)'  # quoted or plain value; or nothing at all
)
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'((?:[^%'\s]|%[0-9A-F]{2})*)", re.IGNORECASE)
_UNSAFE = re.compile(r"[^ !#$&+\-.0-9A-Z^_`a-z{}~()\[\],;=@]")
_ATTR_CHAR = "!#$&+-.^_`|~"


def file_name(value: str | None) -> str | None:
    """Return the name in a Content-Disposition field. Raises Invalid."""
    if value is None:
        return None
    found = _parameters(value)
    name = _extended(found["filename*"]) if "filename*" in found else found.get("filename")
    if not name:
        return None
    if not is_plain(name) or size_of(name) > MAX_NAME:
        raise Invalid(f"a file name has at most {MAX_NAME} bytes and no control characters")
    return name


def _parameters(value: str) -> dict[str, str]:
    malformed = Invalid('Content-Disposition has the form attachment; filename="…"')
    start = _TYPE.match(value)
    if start is None:
        raise malformed
    position, found = start.end(), dict[str, str]()
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None or (match[1] or "").lower() in found:
            raise malformed
        if match[1]:
            quoted, plain = match[2], match[3]
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[match[1].lower()] = text
        position = match.end()
    return found


def _extended(value: str) -> str:
    match = _EXTENDED.fullmatch(value)
    if match is None:
        raise Invalid("filename* has the form UTF-8''percent-encoded")
    try:
        return unquote(match[2], encoding=match[1], errors="strict")
    except UnicodeDecodeError:
        raise Invalid("filename* is not in the character set that it names") from None


def field(name: str | None) -> str:
    """Return Content-Disposition with a plain fallback and the exact name as `filename*`."""
    if name is None:
        return "attachment"
    plain, encoded = _UNSAFE.sub("_", name), quote(name, safe=_ATTR_CHAR)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
