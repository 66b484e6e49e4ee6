"""Signed reports: what a run did, so that it can be shown later and cannot be altered unnoticed.

A report is JSON. What is signed are the bytes `sealgate report 1`, a line feed, and the canonical form
of `report`: keys sorted, no spaces, ASCII, whole numbers only, so that any language can make it again.
Guarantees that what `verify` returns was signed by the key it was given, never by the one that the file
names. It says who held the key, not that what they report is true.
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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

_DOMAIN: Final = b"sealgate report 1\n"
_ALGORITHM: Final = "ed25519"
_PUBLIC: Final = 32
_LARGEST: Final = 64 * 1024 * 1024
_OTHERS: Final = 0o077


class ReportRefused(Exception):
    """A report, or a key for reports, that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs reports with one key."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        """The public key in base64: what others verify with."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    def sign(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report with its signature. Raises ReportRefused if it cannot be canonical."""
        value = self.private.sign(_DOMAIN + canonical(report))
        signature = {
            "algorithm": _ALGORITHM,
            "public_key": self.public,
            "value": base64.b64encode(value).decode(),
        }
        return {"report": dict(report), "signature": signature}


def canonical(report: Mapping[str, Any]) -> bytes:
    """Return the one form in which a report is signed."""
    _whole(report)
    return json.dumps(report, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _whole(value: Any) -> None:
    """Refuse what languages write in different ways."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise ReportRefused("a report's names are text")
            _whole(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _whole(inner)
    elif not isinstance(value, str | int | None):
        raise ReportRefused("a report holds text, whole numbers, true, false and null")


def verify(text: bytes, public: str) -> dict[str, Any]:
    """Return the report in `text` if the key `public` signed it. Raises ReportRefused."""
    if len(text) > _LARGEST:
        raise ReportRefused("the report is too large")
    try:
        signed = json.loads(text, object_pairs_hook=_once)
        report, signature = signed["report"], signed["signature"]
        algorithm, value = (
            signature["algorithm"],
            base64.b64decode(signature["value"], validate=True),
        )
        message = _DOMAIN + canonical(report)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ReportRefused("this is no signed report") from None
    if algorithm != _ALGORITHM:
        raise ReportRefused("the report is signed in a way that is not known here")
    try:
        _public(public).verify(value, message)
    except InvalidSignature:
        other = signature.get("public_key") != public.strip()
        why = "another key signed it" if other else "it was altered"
        raise ReportRefused(f"the signature does not hold: {why}") from None
    return dict(report)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice, which readers take differently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _public(text: str) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _PUBLIC:
        raise ReportRefused("a public key is 32 bytes in base64, as `sealgate report key` shows it")
    return Ed25519PublicKey.from_public_bytes(raw)


def load(path: Path) -> Signer:
    """Return the signer of a key file. Raises ReportRefused, FileNotFoundError if there is none."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ReportRefused(f"others may read the key in {path}: give it mode 0600")
            private = load_pem_private_key(file.read(), password=None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ReportRefused(f"cannot read the key in {path}: {type(error).__name__}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ReportRefused(f"the key in {path} is not an Ed25519 key")
    return Signer(private)


def make(path: Path) -> Signer:
    """Make a key file that only its owner may read; one that is there already is loaded instead."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put(draft, pem)
        try:
            os.link(draft, path)  # whole or not at all, and never over another one
        except FileExistsError:
            return load(path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ReportRefused(f"cannot make a key in {path}: {error.strerror}") from None
    return Signer(private)


def put(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, durably; whoever sees it sees it whole."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
