"""Wrap a data key under a key-encryption key (docs/format.md, "Wrapped DEK").

A wrapped DEK names its KEK and opens under that KEK, that name and that context only; the
commitment of Cobblestone-256 leaves no second KEK that opens it to another DEK.
"""

import re
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from envelope.context import prefixed
from envelope.errors import CannotOpen, Malformed
from envelope.sizes import KEY, sealed_size

MAX_KEK_ID: Final = 64
MAX_WRAPPED: Final = 2 + MAX_KEK_ID + sealed_size(KEY)

_KEK_ID = re.compile(r"[\x21-\x7e]{1,64}")


def wrap(kek: bytes, kek_id: str, dek: bytes, context: bytes) -> bytes:
    """Return `dek` sealed under `kek`, which `kek_id` names, for `context`."""
    if len(dek) != KEY:
        raise ValueError("a data key is 32 bytes")
    name = prefixed(_checked(kek_id).encode())
    encryptor = Cobblestone256Encryptor(kek, prefixed(context) + name)
    return name + encryptor.update(dek) + encryptor.finalize()


def unwrap(kek: bytes, wrapped: bytes, context: bytes) -> bytes:
    """Return the data key, or raise `CannotOpen`."""
    name = prefixed(kek_id(wrapped).encode())
    decryptor = Cobblestone256Decryptor(kek, prefixed(context) + name)
    try:
        return decryptor.update(wrapped[len(name) :]) + decryptor.finalize()
    except InvalidTag:
        raise CannotOpen from None


def kek_id(wrapped: bytes) -> str:
    """Return the id of the KEK that `wrapped` needs; the claim holds once it is unwrapped."""
    size = int.from_bytes(wrapped[:2], "big")
    if size > MAX_KEK_ID or len(wrapped) != 2 + size + sealed_size(KEY):
        raise Malformed("a wrapped key does not have the length of its kind")
    return _checked(wrapped[2 : 2 + size].decode("latin-1"))


def _checked(name: str) -> str:
    if not _KEK_ID.fullmatch(name):
        raise Malformed("a kek id is 1 to 64 printable ASCII characters without spaces")
    return name
