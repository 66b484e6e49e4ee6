"""Who is calling: the client certificate's names, or in development the bearer of a token.

The TLS layer has already verified the certificate against the client CA. A caller without either is
refused; a token is known only when the composition root gave one, over loopback or a Unix socket.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from keyservice.access.policy import Caller
from keyservice.errors import Unauthenticated

DEVELOPMENT = "token:development"
KINDS = {"URI": "uri", "DNS": "dns", "IP Address": "ip", "email": "email"}
ORDER = tuple(KINDS.values())
MAX_NAME = 256


def of_certificate(certificate: dict[str, Any] | None) -> Caller:
    """Return the caller of a verified certificate, URIs before DNS names before the rest."""
    names = [
        f"{KINDS[kind]}:{name}"
        for kind, name in (certificate or {}).get("subjectAltName", ())
        if kind in KINDS and len(name) <= MAX_NAME and name.isprintable()
    ]
    if not names:
        raise Unauthenticated("client certificate has no subject alternative name")
    return Caller(tuple(sorted(names, key=lambda name: ORDER.index(name.partition(":")[0]))))


class TokenCheck:
    """Knows the hash of the development token; compares in constant time."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def caller(self, authorization: str | None) -> Caller:
        """Return the development caller for `Bearer <token>`, or raise Unauthenticated."""
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._digest):
            raise Unauthenticated("development token is missing or wrong")
        return Caller((DEVELOPMENT,))
