"""Digests of the plaintext, computed while it streams and only where somebody asked for one.

Hashing costs more than sealing, so nothing is hashed unasked. A digest identifies content, so it is
sealed with the attributes and never stored in the clear.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Protocol

from blake3 import blake3

from gateway.errors import DigestMismatch, Invalid

SUPPORTED = ("sha-256", "sha-512")  # what HTTP may declare (RFC 9530, section 7.2)
INTERNAL = "blake3"  # tells whether an idempotent request came again with the same bytes


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


def _new(algorithm: str) -> _Hash:
    if algorithm == "sha-256":
        return hashlib.sha256()
    if algorithm == "sha-512":
        return hashlib.sha512()
    if algorithm == INTERNAL:
        return blake3()
    raise Invalid(f"digest algorithm not supported; use one of {', '.join(SUPPORTED)}")


class Digests:
    """Several running digests of one stream."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._running = {name: _new(name) for name in algorithms}

    def update(self, data: bytes | memoryview) -> None:
        """Take the next plaintext bytes."""
        for running in self._running.values():
            running.update(data)

    def values(self) -> dict[str, bytes]:
        """Return every digest of what was taken so far."""
        return {name: running.digest() for name, running in self._running.items()}

    def verify(self, expected: Mapping[str, bytes]) -> None:
        """Raise DigestMismatch unless every expected digest is the one that was computed."""
        for name, value in expected.items():
            if not hmac.compare_digest(self._running[name].digest(), value):
                raise DigestMismatch(f"the body does not have the declared {name} digest")
