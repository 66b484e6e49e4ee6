"""The 102 vectors of c2sp.org/chunked-encryption that `cryptography_vectors` carries.

They are of its SHA-256 instantiations, where ours, Cobblestone-256, has SHA-512; all else is the
same. So all of them run against the construction that docs/format.md describes, and those of
AES-256 against our range reader with the hash exchanged. The vectors of Cobblestone-256 itself
come with Wycheproof (test_wycheproof.py).
"""

import base64
import functools
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any, Final

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import CannotOpen
from envelope.ranges import RangeOpener, plan
from envelope.sizes import CHUNK, HEADER, SALT, SEALED_CHUNK, opened_size

KEY_SIZES: Final = {
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 32,
    "AEAD_CHACHA20_POLY1305": 32,
}

Vector = dict[str, Any]


@functools.cache
def vectors() -> dict[str, Vector]:
    with cryptography_vectors.open_vector_file("chunked-encryption/vectors.json", "r") as file:
        return {vector["name"]: vector for vector in json.load(file)["vectors"]}


def named(*aeads: str) -> list[str]:
    return [name for name, vector in vectors().items() if vector["aead"] in aeads]


def ciphertext_of(vector: Vector) -> bytes:
    data = base64.b64decode(vector["ciphertext"] or "")
    return zlib.decompress(data) if vector.get("compressed") else data


def check(vector: Vector, released: bytes | bytearray, *, whole: bool) -> None:
    assert whole == (vector["expect"] == "success")
    if whole or vector.get("payload_length"):
        assert len(released) == vector["payload_length"]
        assert hashlib.sha256(released).hexdigest() == vector["payload_sha256"]


def reference(vector: Vector) -> Iterator[bytes]:
    """Open by the letter of the specification."""
    aead, key = vector["aead"], bytes.fromhex(vector["key"])
    data = ciphertext_of(vector)
    if len(data) < HEADER or len(key) != KEY_SIZES[aead]:
        raise InvalidTag
    info = b"c2sp.org/chunked-encryption@v1+" + aead.encode() + b"\0" + data[:SALT]
    info += vector["context"].encode()
    size = len(key)
    derived = HKDFExpand(SHA256(), size + 44, info).derive(key)
    if derived[size + 12 :] != data[SALT:HEADER]:
        raise InvalidTag
    if "aead_key" in vector:
        assert derived[:size].hex() == vector["aead_key"]
        assert derived[size : size + 12].hex() == vector["base_nonce"]
    cipher = (ChaCha20Poly1305 if "CHACHA" in aead else AESGCM)(derived[:size])
    base = int.from_bytes(derived[size : size + 12], "big")
    chunks = [data[at : at + SEALED_CHUNK] for at in range(HEADER, len(data), SEALED_CHUNK)]
    for number, chunk in enumerate(chunks):
        yield cipher.decrypt((base ^ number).to_bytes(12, "big"), chunk, None)
    if not chunks or len(chunks[-1]) == SEALED_CHUNK:
        raise InvalidTag


def test_there_are_102_of_which_27_open() -> None:
    assert len(vectors()) == 102
    assert sum(vector["expect"] == "success" for vector in vectors().values()) == 27


@pytest.mark.parametrize("name", list(vectors()))
def test_the_described_derivation(name: str) -> None:
    vector = vectors()[name]
    released = bytearray()
    whole = False
    try:
        for plaintext in reference(vector):
            released += plaintext
        whole = True
    except InvalidTag:
        # Of a message that is not whole, short last chunks are held back by a streaming reader.
        del released[len(released) // CHUNK * CHUNK :]
    check(vector, released, whole=whole)


@pytest.fixture(params=named("AEAD_AES_256_GCM"))
def vector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Vector:
    """Give a vector, with its hash in place of ours and its context in place of our encoding."""
    found = vectors()[request.param]

    def encode(self: Context, purpose: Purpose, extra: bytes = b"") -> bytes:
        del self, purpose, extra
        return str(found["context"]).encode()

    monkeypatch.setattr(Context, "encode", encode)
    monkeypatch.setattr("envelope.ranges.SHA512", SHA256)
    return found


CONTEXT: Final = Context("0" * 32, "1" * 32, "2" * 32)


def test_our_range_opener(vector: Vector) -> None:
    data = ciphertext_of(vector)
    released = bytearray()
    whole = False
    try:
        segment = Segment(opened_size(len(data)), data[:SALT], b"")
        for extent in plan([segment], 0, segment.plaintext_size):
            opener = RangeOpener(bytes.fromhex(vector["key"]), CONTEXT, segment, extent)
            for piece in pushes(data):
                released += opener.update(piece)
            opener.finalize()
            whole = True
    except (CannotOpen, ValueError):
        pass
    if vector["name"].endswith("empty_payload"):
        assert not whole, "an empty segment has no range to read"
        return
    # A size that no message has is refused before anything is read.
    possible = vector["expect"] == "success" or released
    if possible:
        check(vector, released, whole=whole)
    else:
        assert not whole


def pushes(data: bytes) -> Iterator[bytes]:
    """Cut where chunks end, so that each one is released before the next is seen."""
    yield data[:HEADER]
    for at in range(HEADER, len(data), SEALED_CHUNK):
        yield data[at : at + SEALED_CHUNK]
