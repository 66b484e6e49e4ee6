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
# Each step is linear in what it passes: a field is a few KiB, and the loop serves everyone.
_NAME = re.compile(r";\s*(?:([!#$%&'+.^_`|~0-9A-Za-z-]+\*?)\s*=\s*)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*')
_PLAIN = re.compile(r'[^";]*')
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
        named = _NAME.match(value, position)
        if named is None or (named[1] or "").lower() in found:
            raise malformed
        name, position = named[1], named.end()
        quoted = _QUOTED.match(value, position) if name else None
        given = quoted or _PLAIN.match(value, position)
        if given is None or (not name and given[0].strip()):
            raise malformed
        position = given.end()
        if name:
            plain = given[0].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
            found[name.lower()] = plain
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
