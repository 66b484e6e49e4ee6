"""Keys and places for the envelope's tests."""

from collections.abc import Callable

import pytest

from envelope.context import Context
from envelope.core import Segment
from envelope.segment import SegmentSealer

Seal = Callable[[bytes], tuple[Segment, bytes]]


@pytest.fixture
def dek() -> bytes:
    return bytes(range(32))


@pytest.fixture
def context() -> Context:
    return Context("a1" * 16, "b2" * 16, "c3" * 16)


@pytest.fixture
def seal(dek: bytes, context: Context) -> Seal:
    """Give a function that seals a segment."""

    def sealed(plaintext: bytes) -> tuple[Segment, bytes]:
        sealer = SegmentSealer(dek, context)
        ciphertext = sealer.update(plaintext) + sealer.finalize()
        return sealer.segment, ciphertext

    return sealed
