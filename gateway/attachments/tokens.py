"""Bearer tokens: random, stored hashed, scoped by tenant and right, with an expiry.

Guarantees that the secret exists only in the answer to `create`, that a check takes the same time for
an unknown id as for a wrong secret's last byte, and that every refusal reads the same. A token that was
read is believed for `fresh` seconds: that is how long another process may accept one after it was
revoked here. SHA-256 is
enough of a hash here, because the secret is 256 random bits, not a password.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gateway.errors import Forbidden, NotFound, Unauthorized
from gateway.model import Right, Token, now
from gateway.ports import Catalog

_SHAPE = re.compile(r"sgt_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32)
MOST = 10_000  # tokens believed at a time


@dataclass(frozen=True, slots=True)
class Grant:
    """A token as it is given out, once: `text` is what goes behind `Bearer`."""

    token: Token
    text: str = field(repr=False)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Tokens:
    """The use case, over one catalog."""

    def __init__(
        self, catalog: Catalog, *, fresh: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._fresh = fresh
        self._clock = clock
        self._read: dict[str, tuple[Token, float]] = {}
        self._revoked = 0  # here, so far

    async def create(
        self, tenant: str | None, rights: Iterable[Right], *, lifetime: timedelta | None
    ) -> Grant:
        """Create a token for one tenant (None: for all). Raises NotFound for an unknown tenant."""
        if tenant is not None:
            await self._catalog.tenant(tenant)
        created = now()
        secret = secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(8),
            secret_hash=_hash(secret),
            tenant=tenant,
            rights=frozenset(rights),
            created=created,
            expires=None if lifetime is None else created + lifetime,
        )
        await self._catalog.add_token(token)
        return Grant(token, f"sgt_{token.id}_{secret}")

    async def check(self, text: str) -> Token:
        """Return the token that `text` proves. Raises Unauthorized, always with the same words."""
        refusal = "the token is missing, unknown, wrong or expired"
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise Unauthorized(refusal)
        try:
            token = await self._known(shape[1])
            expected = token.secret_hash
        except NotFound:
            token, expected = None, _NOBODY
        right = hmac.compare_digest(_hash(shape[2]), expected)
        if token is None or not right or (token.expires is not None and token.expires <= now()):
            raise Unauthorized(refusal)
        return token

    async def _known(self, token: str) -> Token:
        """Return a token that was read a moment ago, or read it. Raises NotFound."""
        read, until = self._read.get(token, (None, 0.0))
        asked, revoked = self._clock(), self._revoked
        if read is not None and asked < until:
            return read
        if len(self._read) >= MOST:
            self._read.clear()
        found = await self._catalog.token(token)
        if revoked == self._revoked:  # what was read before may be what was revoked since
            self._read[token] = found, asked + self._fresh
        return found

    async def of(self, tenant: str | None) -> Sequence[Token]:
        """Every token of a tenant, or those that are good for all."""
        return await self._catalog.tokens(tenant)

    async def revoke(self, token: str, tenant: str | None) -> None:
        """Revoke a token by its public id, if it is this tenant's. Raises NotFound."""
        if (await self._catalog.token(token)).tenant != tenant:
            raise NotFound("no such token")
        try:
            await self._catalog.remove_token(token)
        finally:  # also where the answer was lost
            self._revoked += 1
            self._read.pop(token, None)


def allow(token: Token, tenant: str | None, right: Right) -> None:
    """Raise Forbidden unless the token is good for this tenant (None: for all) and right."""
    if token.tenant is not None and token.tenant != tenant:
        raise Forbidden("the token belongs to another tenant")
    if right not in token.rights:
        raise Forbidden(f"the token lacks the right to {right}")


def shown(token: Token) -> dict[str, Any]:
    """Return a token as the API and the commands show it, without what would let anyone use it."""
    return {
        "token": token.id,
        "tenant": token.tenant,
        "rights": sorted(right.value for right in token.rights),
        "created": token.created.isoformat(),
        "expires": token.expires.isoformat() if token.expires else None,
    }
