"""Signed documents: what somebody states, so that it can be shown later and cannot be altered unnoticed.

A document is JSON. What is signed are the bytes of its kind, a line feed, and its canonical form: keys
sorted, no spaces, ASCII, whole numbers only, so that any language can make it again. Guarantees that
what `verify` returns was signed by a key it was given, never by one that the document names, and that
a document of one kind never passes for another. It says who held the key, not that what it states is
true. Reads and writes no file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_ALGORITHM: Final = "ed25519"
_PUBLIC: Final = 32
_LARGEST: Final = 64 * 1024 * 1024


class SignatureRefused(Exception):
    """A signed document, or a key for them, that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of document: the name of its field, and the words that are signed before it."""

    field: str
    words: str

    def message(self, document: Mapping[str, Any]) -> bytes:
        """Return the bytes that are signed for a document. Raises SignatureRefused."""
        return self.words.encode() + b"\n" + canonical(document)


REPORT: Final = Kind("report", "sealgate report 1")


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one key."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        """The public key in base64: what others verify with."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    @property
    def pem(self) -> bytes:
        """The private key, for a file of its owner alone."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, document: Mapping[str, Any], kind: Kind = REPORT) -> dict[str, Any]:
        """Return the document with its signature. Raises SignatureRefused if it cannot be canonical."""
        value = self.private.sign(kind.message(document))
        signature = {
            "algorithm": _ALGORITHM,
            "public_key": self.public,
            "value": base64.b64encode(value).decode(),
        }
        return {kind.field: dict(document), "signature": signature}

    def mark(self, line: str, words: str) -> str:
        """Return the signature, in base64, of a line of text under words that say what it is."""
        return base64.b64encode(self.private.sign(_line(line, words))).decode()


def marked(line: str, words: str, mark: str, public: str) -> bool:
    """Say whether `Signer.mark` of this key made the mark. Raises SignatureRefused for a bad key."""
    key = _public(public)
    try:
        key.verify(base64.b64decode(mark, validate=True), _line(line, words))
    except (InvalidSignature, ValueError):
        return False
    return True


def new_signer() -> Signer:
    """Return a signer with a fresh key."""
    return Signer(Ed25519PrivateKey.generate())


def signer_of(pem: bytes) -> Signer:
    """Return the signer of a key as `Signer.pem` gives it. Raises ValueError for anything else."""
    private = load_pem_private_key(pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        msg = "not an Ed25519 key"
        raise ValueError(msg)  # noqa: TRY004 - one error for whatever is no such key
    return Signer(private)


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return the one form in which a document is signed."""
    _whole(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def verify(text: bytes, public: str | Iterable[str], kind: Kind = REPORT) -> dict[str, Any]:
    """Return the document in `text` if one of the keys `public` signed it. Raises SignatureRefused."""
    keys = [public] if isinstance(public, str) else list(public)
    if len(text) > _LARGEST:
        raise SignatureRefused(f"the {kind.field} is too large")
    try:
        signed = json.loads(text, object_pairs_hook=_once)
        document, signature = signed[kind.field], signed["signature"]
        algorithm, value, claimed = (
            signature["algorithm"],
            base64.b64decode(signature["value"], validate=True),
            signature.get("public_key"),
        )
        message = kind.message(document)
    except SignatureRefused:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SignatureRefused(f"this is no signed {kind.field}") from None
    if algorithm != _ALGORITHM:
        raise SignatureRefused(f"the {kind.field} is signed in a way that is not known here")
    # The key that is named only tells which one to try, and which word to use when none fits.
    for key in keys:
        if len(keys) > 1 and key.strip() != claimed:
            continue
        try:
            _public(key).verify(value, message)
        except InvalidSignature:
            break
        return dict(document)
    other = claimed not in {key.strip() for key in keys}
    why = "another key signed it" if other else "it was altered"
    raise SignatureRefused(f"the signature does not hold: {why}")


def demand_public(text: str) -> str:
    """Return a public key's text if it is one. Raises SignatureRefused."""
    _public(text)
    return text.strip()


def _line(line: str, words: str) -> bytes:
    return f"{words}\n{line}".encode()


def _public(text: str) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _PUBLIC:
        raise SignatureRefused(
            "a public key is 32 bytes in base64, as `sealgate report key` shows it"
        )
    return Ed25519PublicKey.from_public_bytes(raw)


def _whole(value: Any) -> None:
    """Refuse what languages write in different ways."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise SignatureRefused("what is signed has text for names")
            _whole(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _whole(inner)
    elif not isinstance(value, str | int | None):
        raise SignatureRefused("what is signed holds text, whole numbers, true, false and null")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice, which readers take differently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found
