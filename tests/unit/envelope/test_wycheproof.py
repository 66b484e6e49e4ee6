"""Wycheproof (Apache-2.0, not kept here) on the primitives below us and on both our readers.

The files are read from the folder that SEALGATE_WYCHEPROOF names, from
`~/.cache/sealgate/wycheproof`, or from the `wycheproof` crate in cargo's registry.
"""

import functools
import hashlib
import hmac
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import EnvelopeError
from envelope.ranges import RangeOpener, plan
from envelope.segment import SegmentOpener
from envelope.sizes import CHUNK, HEADER, SALT, SEALED_CHUNK, opened_size

Vector = dict[str, Any]
CONTEXT = Context("0" * 32, "1" * 32, "2" * 32)


def folders() -> Iterator[Path]:
    if named := os.environ.get("SEALGATE_WYCHEPROOF"):
        yield Path(named)
    yield Path.home() / ".cache" / "sealgate" / "wycheproof"
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    yield from sorted(cargo.glob("registry/src/*/wycheproof-*/src/data"), reverse=True)


@functools.cache
def groups(name: str) -> list[Vector]:
    for folder in folders():
        if (folder / name).is_file():
            found: list[Vector] = json.loads((folder / name).read_text())["testGroups"]
            return found
    pytest.skip(f"wycheproof's {name} is not here: put it into ~/.cache/sealgate/wycheproof")


def vectors(name: str, **parameters: int) -> list[Vector]:
    return [
        test
        for group in groups(name)
        if all(group[key] == value for key, value in parameters.items())
        for test in group["tests"]
    ]


def data(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def test_aes_gcm_with_the_sizes_of_the_format() -> None:
    cases = vectors("aes_gcm_test.json", keySize=256, ivSize=96, tagSize=128)
    assert len(cases) > 60
    for case in cases:
        key, nonce, aad, message, ciphertext, tag = data(
            case, "key", "iv", "aad", "msg", "ct", "tag"
        )
        if case["result"] == "valid":
            assert AESGCM(key).encrypt(nonce, message, aad) == ciphertext + tag
            assert AESGCM(key).decrypt(nonce, ciphertext + tag, aad) == message
        else:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(nonce, ciphertext + tag, aad)


def test_the_expansion_of_hkdf_sha_512() -> None:
    cases = vectors("hkdf_sha512_test.json")
    assert len(cases) > 80
    for case in cases:
        ikm, salt, info, okm = data(case, "ikm", "salt", "info", "okm")
        # The format needs no extraction; here it comes first, by the definition of HKDF.
        prk = hmac.digest(salt or bytes(64), ikm, "sha512")
        if case["result"] == "valid":
            assert HKDFExpand(SHA512(), case["size"], info).derive(prk) == okm
        else:
            with pytest.raises(ValueError, match="larger than"):
                HKDFExpand(SHA512(), case["size"], info)


def pushes(ciphertext: bytes) -> Iterator[bytes]:
    yield ciphertext[:HEADER]
    for at in range(HEADER, len(ciphertext), SEALED_CHUNK):
        yield ciphertext[at : at + SEALED_CHUNK]


def by_segment(key: bytes, ciphertext: bytes) -> Iterator[bytes]:
    opener = SegmentOpener(key, CONTEXT)
    for piece in pushes(ciphertext):
        yield opener.update(piece)
    yield opener.finalize()


def by_range(key: bytes, ciphertext: bytes) -> Iterator[bytes]:
    segment = Segment(opened_size(len(ciphertext)), ciphertext[:SALT], b"")
    for extent in plan([segment], 0, segment.plaintext_size):
        opener = RangeOpener(key, CONTEXT, segment, extent)
        for piece in pushes(ciphertext):
            yield opener.update(piece)
        opener.finalize()


@pytest.mark.parametrize("reader", [by_segment, by_range])
def test_cobblestone_256(
    reader: Callable[[bytes, bytes], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = vectors("c2sp_chunked_encryption_aes_256_gcm_test.json")
    assert len(cases) >= 35
    bound = b""

    def encode(self: Context, purpose: Purpose, extra: bytes = b"") -> bytes:
        del self, purpose, extra
        return bound

    monkeypatch.setattr(Context, "encode", encode)
    for case in cases:
        key, bound, packed = data(case, "key", "ctx", "ct")
        ciphertext = zlib.decompress(packed)
        released = bytearray()
        whole = False
        try:
            for plaintext in reader(key, ciphertext):
                released += plaintext
            whole = True
        except (EnvelopeError, ValueError):
            pass
        assert whole == (case["result"] == "valid"), case["comment"]
        if whole:
            assert len(released) == case["msgLength"]
            assert hashlib.sha512(released).hexdigest() == case["msgSha512"]
        else:
            # A prefix of whole chunks at most; a size that no message has releases nothing.
            assert len(released) in {0, case.get("msgLength", 0) // CHUNK * CHUNK}
