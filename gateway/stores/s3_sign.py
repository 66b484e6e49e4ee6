"""Signature Version 4 in the Authorization header, for the requests whose bodies we stream.

Made for speed: the signing key is kept for its day, and the caller gives path and query in canonical
form already. Signs every header it is given. It does not hash bodies. A test holds each signature
against botocore's.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs: an access key, its secret, and the token of a session if it is one."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class _SigningKey:
    secret: str = field(repr=False)
    day: str
    key: bytes = field(repr=False)


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._kept = _SigningKey("", "", b"")

    def sign(
        self,
        credentials: Credentials,
        *,
        method: str,
        host: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload: str,
        at: datetime,
    ) -> dict[str, str]:
        """Return `headers` (names in lower case) with those added that prove who sends them.

        `payload` is the body's SHA-256 in hex, or UNSIGNED.
        """
        moment = at.strftime("%Y%m%dT%H%M%SZ")
        signed = {
            "host": host,
            **headers,
            "x-amz-content-sha256": payload,
            "x-amz-date": moment,
        }
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(signed)
        lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
        listed = ";".join(names)
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{payload}"
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"
        key = self._key(credentials.secret_key, moment[:8])
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={listed}, "
            f"Signature={_mac(key, text).hex()}"
        )
        return signed

    def _key(self, secret: str, day: str) -> bytes:
        kept = self._kept
        if kept.day != day or kept.secret != secret:
            key = f"AWS4{secret}".encode()
            for word in (day, self._region, self._service, "aws4_request"):
                key = _mac(key, word)
            kept = self._kept = _SigningKey(secret, day, key)
        return kept.key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
