"""The secret attributes of an attachment (docs/format.md, "Attributes").

They are sealed under the data key with the digest of the core in their context, so opening them
proves core, key and attributes to belong together. Their length is not hidden.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from envelope import canonical
from envelope.context import Purpose
from envelope.core import Core
from envelope.errors import CannotOpen, Malformed, TooLarge
from envelope.sizes import sealed_size

MAX_NAME: Final = 1024
MAX_CONTENT_TYPE: Final = 255
MAX_REFERENCE: Final = 1024
MAX_USER: Final = 64
MAX_USER_KEY: Final = 128
MAX_USER_VALUE: Final = 2048
MAX_DIGESTS: Final = 8
MAX_ALGORITHM: Final = 32
MAX_DIGEST: Final = 64
# The sum of all bounds is near 143 KiB, heads included.
MAX_ATTRIBUTES: Final = 160 * 1024
MAX_SEALED_ATTRIBUTES: Final = sealed_size(MAX_ATTRIBUTES)

_ALGORITHM = re.compile(r"[a-z0-9-]{1,32}")


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What only a holder of the data key may know; bounds are in bytes of UTF-8."""

    name: str | None = dataclasses.field(repr=False)
    content_type: str | None = dataclasses.field(repr=False)
    reference: str = dataclasses.field(repr=False)
    user: Mapping[str, str] = dataclasses.field(repr=False)
    digests: Mapping[str, bytes] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        _bound("a file name", self.name, MAX_NAME)
        _bound("a content type", self.content_type, MAX_CONTENT_TYPE)
        _bound("a reference", self.reference, MAX_REFERENCE)
        if len(self.user) > MAX_USER or len(self.digests) > MAX_DIGESTS:
            raise TooLarge(f"at most {MAX_USER} user entries and {MAX_DIGESTS} digests are kept")
        for key, value in self.user.items():
            _bound("a user metadata key", key, MAX_USER_KEY)
            _bound("a user metadata value", value, MAX_USER_VALUE)
            if not key:
                raise Malformed("a user metadata key is empty")
        for algorithm, digest in self.digests.items():
            if not _ALGORITHM.fullmatch(algorithm) or not 0 < len(digest) <= MAX_DIGEST:
                raise Malformed("a digest is 1 to 64 bytes under a name such as sha-256")

    def encode(self) -> bytes:
        """Return the canonical bytes, which are what is sealed."""
        return canonical.encode(
            [self.name, self.content_type, self.reference, dict(self.user), dict(self.digests)]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Attributes":
        """Return the attributes that `data` is the canonical form of."""
        reader = canonical.Reader(data)
        reader.array(5)
        name = None if reader.null() else reader.text(MAX_NAME)
        content_type = None if reader.null() else reader.text(MAX_CONTENT_TYPE)
        reference = reader.text(MAX_REFERENCE)
        user = {
            reader.text(MAX_USER_KEY): reader.text(MAX_USER_VALUE)
            for _ in range(reader.map_of(MAX_USER))
        }
        digests = {
            reader.text(MAX_ALGORITHM): reader.data(MAX_DIGEST)
            for _ in range(reader.map_of(MAX_DIGESTS))
        }
        reader.end()
        attributes = cls(name, content_type, reference, user, digests)
        if attributes.encode() != data:
            raise Malformed("attributes are not in canonical form")
        return attributes


def seal_attributes(dek: bytes, core: Core, attributes: Attributes) -> bytes:
    """Return `attributes` sealed under `dek` and bound to `core`."""
    encryptor = Cobblestone256Encryptor(dek, _context(core))
    return encryptor.update(attributes.encode()) + encryptor.finalize()


def open_attributes(dek: bytes, core: Core, sealed: bytes) -> Attributes:
    """Return the attributes; success authenticates `core` and commits to `dek`."""
    if len(sealed) > MAX_SEALED_ATTRIBUTES:
        raise TooLarge("sealed attributes are larger than the format allows")
    decryptor = Cobblestone256Decryptor(dek, _context(core))
    try:
        return Attributes.decode(decryptor.update(sealed) + decryptor.finalize())
    except InvalidTag:
        raise CannotOpen from None


def _context(core: Core) -> bytes:
    return core.context.encode(Purpose.ATTRIBUTES, core.digest())


def _bound(what: str, text: str | None, most: int) -> None:
    # The text itself stays out of every error, and out of their causes.
    if text is None:
        return
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Malformed(f"{what} is not valid Unicode") from None
    if size > most:
        raise TooLarge(f"{what} is longer than {most} bytes")
