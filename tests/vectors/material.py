"""The fixed keys, ids and messages that the vectors are made of, and how a case is written."""

import hashlib
import re
from typing import Any, Final

from tests.vectors import independent as second

Case = dict[str, Any]

DEK: Final = second.fixed("dek")
OTHER_DEK: Final = second.fixed("other dek")
KEK: Final = second.fixed("kek")
IDS: Final = tuple(second.fixed(name, 16) for name in ("tenant", "attachment", "version"))
BODY: Final = second.context(IDS, "body")
CREATED: Final = 1_767_225_600_000_000
CHUNK: Final = second.CHUNK
SEALED: Final = CHUNK + 16
HEADER: Final = 56


def salt(label: str) -> bytes:
    """Return a salt that is the same on every run."""
    return second.fixed("salt of " + label, 24)


def message(label: str, size: int, context: bytes = BODY) -> tuple[bytes, bytes]:
    """Return a plaintext and its sealed form, which is zeros but for header and tags."""
    plaintext = second.quiet_plaintext(DEK, salt(label), context, size)
    return plaintext, second.seal(DEK, salt(label), context, plaintext)


def hexed(ids: tuple[bytes, ...] = IDS) -> dict[str, str]:
    """Return the ids of a context by name."""
    return dict(zip(("tenant", "attachment", "version"), (i.hex() for i in ids), strict=True))


def pieces(data: bytes) -> list[str | dict[str, int]]:
    """Write bytes as hex strings and runs of zeros."""
    parts = re.findall(rb"\x00{64,}|(?:(?!\x00{64}).)+", data, re.DOTALL)
    return [part.hex() if any(part) else {"zeros": len(part)} for part in parts]


def released(plaintext: bytes) -> dict[str, int | str]:
    """Describe the plaintext that a reader may release."""
    return {"size": len(plaintext), "sha256": hashlib.sha256(plaintext).hexdigest()}


def flip(data: bytes, at: int) -> bytes:
    """Flip the lowest bit of one byte."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
