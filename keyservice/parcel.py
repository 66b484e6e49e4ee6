"""A root key on its way in: packed where it is, opened only inside the root that it is for.

The form is the one that Vault's transit engine imports: an AES-256 key of this one use, encrypted to
the root's public key (RSA-OAEP with SHA-256), and the root key under it (AES key wrap with padding,
RFC 5649). Whoever carries a parcel, or keeps a copy, sees no key; nothing here says who packed it, so
it must come over a connection that does. No error holds key bytes.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from keyservice.errors import Invalid

KEY_SIZE = 32
SMALLEST_MODULUS = 3072
_PADDING = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def pack(public_key: str, key: bytes) -> bytes:
    """Return the root key of 32 bytes for the holder of the PEM's private key; raise Invalid."""
    if len(key) != KEY_SIZE:
        raise Invalid(f"a root key has exactly {KEY_SIZE} bytes, this has {len(key)}")
    try:
        public = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid("wrapping key is no public key in PEM") from None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < SMALLEST_MODULUS:
        raise Invalid(f"wrapping key is no RSA key of at least {SMALLEST_MODULUS} bits")
    once = secrets.token_bytes(KEY_SIZE)
    return public.encrypt(once, _PADDING) + aes_key_wrap_with_padding(once, key)


def unpack(private: rsa.RSAPrivateKey, parcel: bytes) -> bytes:
    """Return the root key; Invalid, with one message, when it is damaged, foreign or another size."""
    modulus = private.key_size // 8
    try:
        once = private.decrypt(parcel[:modulus], _PADDING)
        key = aes_key_unwrap_with_padding(once, parcel[modulus:])
    except (ValueError, InvalidUnwrap):
        key = b""
    if len(key) != KEY_SIZE:
        raise Invalid("parcel does not open to a root key: pack it again for this wrapping key")
    return key
