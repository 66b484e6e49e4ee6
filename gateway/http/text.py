"""Which text a client may give as an id, a name or a value.

Unicode's own idea of printable is too narrow: file names hold no-break spaces and joined emoji. What is
refused is what can break a line or is no character at all.
"""

import re

_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Tell whether a text has no control character, line separator or lone surrogate."""
    return _BREAKING.search(text) is None


def size_of(text: str) -> int:
    """Return the length of a plain text in bytes of UTF-8."""
    return len(text.encode())
