"""What a ciphertext is bound to (docs/format.md, "Encryption context").

Guarantees that two different places never share an encoding: fields have a fixed order and
every one carries its length. Opening with any other context fails; nothing here is secret.
"""

import dataclasses
import enum
import re
from typing import Final

from envelope.errors import Malformed, TooLarge

FORMAT: Final = b"sealgate/1"
ID_SIZE: Final = 16

_ID = re.compile(r"[0-9a-f]{32}")
_IDS = re.compile(rf"{_ID.pattern}/{_ID.pattern}/{_ID.pattern}")
_LENGTH_SIZE = 2


class Purpose(enum.Enum):
    """What a message under a key is for; no ciphertext serves two purposes."""

    BODY = b"body"
    ATTRIBUTES = b"attributes"
    DEK = b"dek"


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """One version of one attachment of one tenant, each as 32 lower-case hex characters."""

    tenant: str
    attachment: str
    version: str

    def __post_init__(self) -> None:
        if _IDS.fullmatch(f"{self.tenant}/{self.attachment}/{self.version}"):
            return
        for name in ("tenant", "attachment", "version"):
            if not _ID.fullmatch(getattr(self, name)):
                raise Malformed(f"{name} id is not 32 lower-case hex characters")

    def ids(self) -> tuple[bytes, bytes, bytes]:
        """Return the three ids as 16 bytes each, tenant first."""
        return (
            bytes.fromhex(self.tenant),
            bytes.fromhex(self.attachment),
            bytes.fromhex(self.version),
        )

    def encode(self, purpose: Purpose, extra: bytes = b"") -> bytes:
        """Return the canonical bytes; `extra` binds more, such as the digest of a core."""
        ids = bytes.fromhex(f"{_SIZE}{self.tenant}{_SIZE}{self.attachment}{_SIZE}{self.version}")
        return b"".join((_BEFORE[purpose], ids, prefixed(extra) if extra else _NO_EXTRA))


def prefixed(field: bytes) -> bytes:
    """Return `field` after its length in two bytes, big-endian."""
    if len(field) >> (8 * _LENGTH_SIZE):
        raise TooLarge("a context field is longer than 65535 bytes")
    return len(field).to_bytes(_LENGTH_SIZE, "big") + field


# Of every context the same, and asked for several times in each request.
_BEFORE: Final = {purpose: prefixed(FORMAT) + prefixed(purpose.value) for purpose in Purpose}
_SIZE: Final = ID_SIZE.to_bytes(_LENGTH_SIZE, "big").hex()
_NO_EXTRA: Final = prefixed(b"")
