"""The arithmetic of Cobblestone-256: every ciphertext size is known in advance.

A message is a header (salt and commitment) and 16 KiB chunks with a tag each; the last chunk
is always shorter than 16 KiB and may be empty, so each plaintext size has one ciphertext size.
"""

from typing import Final

from envelope.errors import CannotOpen, TooLarge

CHUNK: Final = 16384
TAG: Final = 16
SEALED_CHUNK: Final = CHUNK + TAG
SALT: Final = 24
COMMITMENT: Final = 32
HEADER: Final = SALT + COMMITMENT
KEY: Final = 32

# 2^38 chunks, of which the last is short: one byte less than 4 PiB.
MAX_PLAINTEXT: Final = (1 << 52) - 1


def sealed_size(plaintext_size: int) -> int:
    """Return how many bytes of ciphertext `plaintext_size` bytes become."""
    if plaintext_size < 0:
        raise ValueError("a size is not negative")
    if plaintext_size > MAX_PLAINTEXT:
        raise TooLarge("a segment holds less than 4 PiB")
    return HEADER + plaintext_size + (plaintext_size // CHUNK + 1) * TAG


def opened_size(sealed_size: int) -> int:
    """Return how many bytes of plaintext a whole message holds; refuse impossible sizes."""
    whole, last = divmod(sealed_size - HEADER, SEALED_CHUNK)
    if whole < 0 or last < TAG:
        raise CannotOpen
    plaintext_size = whole * CHUNK + last - TAG
    if plaintext_size > MAX_PLAINTEXT:
        raise TooLarge("a segment holds less than 4 PiB")
    return plaintext_size
