"""How the key service proves itself to Vault or OpenBao, and keeps its token alive.

`Tokens` hands out one token to all who call: fetched when first needed, renewed at two thirds of
its life, fetched again when it has expired or was lost. It works when it is asked and needs no
task of its own: a token that ran out while nobody called is simply replaced. Everything here blocks
and may be called from many threads; the files are read anew at every log-in, so that what they hold
can be replaced under a running service. Credentials that were refused are tried again ever more
rarely (Vault locks out who insists), others at once.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from keyservice.errors import Unavailable

RENEW_AT = 2 / 3
HOLD = 5.0
"""Seconds between log-ins after a refusal, of the log-in or of a path: Vault locks out who insists."""
LONGEST_HOLD = 60.0
"""The same at most, when log-ins with the same credentials are refused again and again."""

TokenRequest = Callable[[str, str, Mapping[str, Any] | None, str], Mapping[str, Any]]
"""Sends (method, path, body, token) and returns the answer's JSON; raises `Refused` for 400 and
403, Unavailable for all else."""


class Refused(Unavailable):
    """Vault answered and said no: to the token, the log-in, or the path."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as Vault granted it; `ttl` in seconds, 0 for one that never expires."""

    value: str = field(repr=False)
    ttl: float
    renewable: bool


class Login(Protocol):
    """One way to get a token."""

    def log_in(self, request: TokenRequest) -> Token:
        """Return a fresh token; raise Refused, or Unavailable (also when a file is missing)."""
        ...

    def fingerprint(self) -> bytes:
        """Return a digest of what would be logged in with now; raise Unavailable as `log_in`."""
        ...


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """A role id and a secret id, each in a file."""

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"

    def log_in(self, request: TokenRequest) -> Token:
        """See `Login.log_in`."""
        body = {
            "role_id": _read(self.role_id_file, "role id file"),
            "secret_id": _read(self.secret_id_file, "secret id file"),
        }
        return _granted(request("post", f"auth/{self.mount}/login", body, ""))

    def fingerprint(self) -> bytes:
        """See `Login.fingerprint`."""
        role = _read(self.role_id_file, "role id file")
        return _digest(role, _read(self.secret_id_file, "secret id file"))


@dataclass(frozen=True, slots=True)
class KubernetesLogin:
    """The pod's service account, by the token that Kubernetes projects into it."""

    role: str
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: str = "kubernetes"

    def log_in(self, request: TokenRequest) -> Token:
        """See `Login.log_in`."""
        body = {"role": self.role, "jwt": _read(self.token_file, "service account token file")}
        return _granted(request("post", f"auth/{self.mount}/login", body, ""))

    def fingerprint(self) -> bytes:
        """See `Login.fingerprint`."""
        return _digest(self.role, _read(self.token_file, "service account token file"))


class Tokens:
    """The current token of one service, shared by its threads."""

    def __init__(
        self,
        login: Login,
        request: TokenRequest,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._request = request
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._hold = 0.0
        self._held_until = float("-inf")
        self._refused = b""
        self._forbidden_until = float("-inf")

    def current(self) -> str:
        """Return a token that should be good now; raise Refused or Unavailable."""
        with self._lock:
            now = self._clock()
            if self._token is None or now >= self._expires_at:
                return self._log_in(now)
            if now >= self._renew_at:
                return self._renew(self._token, now)
            return self._token.value

    def lost(self, value: str) -> bool:
        """Forget the token that Vault refused, unless it was replaced already.

        False, and nothing is forgotten, where a fresh token was refused a moment ago: then it was
        the path, and to log in again would cost all who share the token. With other credentials than
        it was fetched with, another log-in may help.
        """
        with self._lock:
            if self._clock() < self._forbidden_until and not self._has_others():
                return False
            if self._token is not None and self._token.value == value:
                self._token = None
            return True

    def forbidden(self) -> None:
        """Note that Vault refused a path to a token that had just been fetched."""
        with self._lock:
            self._forbidden_until = self._clock() + HOLD

    def _has_others(self) -> bool:
        try:
            return self._login.fingerprint() != self._used
        except Unavailable:
            return False

    def _log_in(self, now: float) -> str:
        credentials = self._login.fingerprint()
        if now < self._held_until and credentials == self._refused:
            raise Refused("vault refused the last log-in", retry_after=self._held_until - now)
        try:
            token = self._login.log_in(self._request)
        except Refused:
            again = credentials == self._refused
            self._hold = min(LONGEST_HOLD, self._hold * 2) if again else HOLD
            self._held_until, self._refused = self._clock() + self._hold, credentials
            raise Refused("vault refuses the log-in", retry_after=self._hold) from None
        self._refused, self._used = b"", credentials
        self._keep(token, now)
        return token.value

    def _renew(self, token: Token, now: float) -> str:
        """Renew, or log in when that would not win half of the first life; else go on as it is."""
        if token.renewable:
            try:
                granted = _granted(self._request("post", "auth/token/renew-self", {}, token.value))
            except Refused:
                return self._log_in(now)
            except Unavailable:
                # Still valid: the call that asked will find out for itself how Vault is.
                self._renew_at = now + (self._expires_at - now) / 2
                return token.value
            if granted.ttl >= token.ttl / 2:
                self._keep(Token(token.value, granted.ttl, granted.renewable), now)
                return token.value
        return self._log_in(now)

    def _keep(self, token: Token, since: float) -> None:
        life = token.ttl or float("inf")
        self._token = token
        self._renew_at = since + life * RENEW_AT
        self._expires_at = since + life


def _granted(answer: Mapping[str, Any]) -> Token:
    auth = answer.get("auth")
    value = auth.get("client_token") if isinstance(auth, dict) else None
    return _token(auth, value)


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()


def _token(grant: Any, value: object) -> Token:
    try:
        ttl, renewable = float(grant["lease_duration"]), bool(grant.get("renewable"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable("vault gave a log-in answer that makes no sense") from None
    if not (isinstance(value, str) and value):
        raise Unavailable("vault gave no token")
    return Token(value, ttl, renewable=renewable)


def _read(path: Path, what: str) -> str:
    try:
        text = path.read_text().strip()
    except OSError:
        raise Unavailable(f"{what} cannot be read") from None
    if not text:
        raise Unavailable(f"{what} is empty")
    return text
