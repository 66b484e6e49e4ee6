"""The format a second time, from primitives alone and with fixed salts.

It shares no code with the library, so agreement on the vectors means that docs/format.md can be
followed. It only ever seals; it checks nothing and is no example of how to open safely.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHUNK = 16384
LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


def fixed(label: str, size: int = 32) -> bytes:
    """Return bytes that are the same on every run."""
    return hashlib.shake_256(label.encode()).digest(size)


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """What HKDF-Expand yields for one message."""

    key: bytes
    nonce: bytes
    commitment: bytes

    def at(self, chunk: int) -> bytes:
        """Return the nonce of a chunk: the last five bytes take the counter."""
        tail = bytes(a ^ b for a, b in zip(self.nonce[-5:], chunk.to_bytes(5, "big"), strict=True))
        return self.nonce[:-5] + tail


def derive(key: bytes, salt: bytes, context: bytes) -> Derived:
    """Derive the single-use keys of a message."""
    out = HKDFExpand(SHA512(), 76, LABEL + salt + context).derive(key)
    return Derived(out[:32], out[32:44], out[44:])


def seal_chunks(derived: Derived, plaintext: bytes, first: int = 0) -> list[bytes]:
    """Seal every chunk, the short last one included."""
    aead = AESGCM(derived.key)
    return [
        aead.encrypt(derived.at(first + n), plaintext[n * CHUNK : (n + 1) * CHUNK], None)
        for n in range(len(plaintext) // CHUNK + 1)
    ]


def seal(key: bytes, salt: bytes, context: bytes, plaintext: bytes) -> bytes:
    """Seal a message with a salt of the caller's."""
    derived = derive(key, salt, context)
    return salt + derived.commitment + b"".join(seal_chunks(derived, plaintext))


def quiet_plaintext(key: bytes, salt: bytes, context: bytes, size: int) -> bytes:
    """Return the plaintext whose ciphertext is all zeros but for the tags.

    Such a vector is short to write down, however long it is.
    """
    zeros = seal(key, salt, context, bytes(size))[56:]
    return b"".join(zeros[at : at + CHUNK + 16][:-16] for at in range(0, len(zeros), CHUNK + 16))


def lp(*fields: bytes) -> bytes:
    """Return each field after its length in two bytes."""
    return b"".join(bytes(divmod(len(field), 256)) + field for field in fields)


def context(ids: Sequence[bytes], purpose: str, extra: bytes = b"") -> bytes:
    """Return an encryption context."""
    return lp(b"sealgate/1", purpose.encode(), *ids, extra)


def wrap(kek: bytes, salt: bytes, name: str, dek: bytes, bound: bytes) -> bytes:
    """Return a wrapped DEK."""
    return lp(name.encode()) + seal(kek, salt, lp(bound) + lp(name.encode()), dek)


def head(major: int, value: int) -> bytes:
    """Return the shortest CBOR head."""
    if value < 24:
        return bytes([major << 5 | value])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << (8 * size):
            return bytes([major << 5 | info]) + value.to_bytes(size, "big")
    raise ValueError("too large for CBOR")


def cbor(value: object) -> bytes:
    """Return the deterministic CBOR of the types that the format uses."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, Mapping):
        pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
        return head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, Sequence):
        return head(4, len(value)) + b"".join(map(cbor, value))
    raise TypeError("not a type of the format")


def segment_record(size: int, sealed: bytes) -> bytes:
    """Return the 64 bytes that a core keeps of a segment."""
    return size.to_bytes(8, "big") + sealed[:24] + blake3(sealed).digest()


def core(ids: Sequence[bytes], created: int, records: Sequence[bytes]) -> bytes:
    """Return a core."""
    return cbor([1, *ids, created, b"".join(records)])


def attributes_context(ids: Sequence[bytes], core_bytes: bytes) -> bytes:
    """Return the context that binds attributes to a core."""
    return context(ids, "attributes", hashlib.sha512(core_bytes).digest())


def gf_multiply(x: int, y: int) -> int:
    """Multiply in the field of GHASH, whose bits run from the most significant."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def gf_power(x: int, exponent: int) -> int:
    """Raise to a power in the field of GHASH."""
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = gf_multiply(result, x)
        x = gf_multiply(x, x)
        exponent >>= 1
    return result


def salamander(first: Derived, second: Derived, blocks: int = 4) -> bytes:
    """Return one ciphertext with one tag that AES-GCM opens under both keys.

    The tag is linear in every block, so one free block makes both keys agree on it.
    """
    ciphertext = [0] * blocks
    sides = []
    for side in (first, second):
        # Over no data at all, the tag is the mask that every tag of this nonce carries.
        mask = int.from_bytes(AESGCM(side.key).encrypt(side.nonce, b"", None), "big")
        sides.append((_hash_key(side.key), mask))
    length = 128 * blocks

    def tag(key: int, mask: int) -> int:
        value = 0
        for block in (*ciphertext, length):
            value = gf_multiply(value ^ block, key)
        return value ^ mask

    # The first block is multiplied by H to the number of blocks that follow it, lengths too.
    difference = tag(*sides[0]) ^ tag(*sides[1])
    weight = gf_power(sides[0][0], blocks + 1) ^ gf_power(sides[1][0], blocks + 1)
    ciphertext[0] = gf_multiply(difference, gf_power(weight, (1 << 128) - 2))
    body = b"".join(block.to_bytes(16, "big") for block in ciphertext)
    return body + tag(*sides[0]).to_bytes(16, "big")


def _hash_key(key: bytes) -> int:
    """Return H, the encryption of a zero block."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(cipher.update(bytes(16)), "big")
