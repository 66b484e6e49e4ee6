"""Calls to Vault or OpenBao from coroutines: `hvac` in a few threads of its own.

Guarantees: no call outlives its deadline; at most `threads` are under way at once; an answer that a
busy, restarting or standing-by server could still give is asked for again, with jitter; a call that
might have been carried out is repeated only where the caller says that this is safe; a lost token
is replaced once, and a path that stays forbidden replaces no more. What fails is Unavailable with a
time to come back, and no error holds a URL, a token or a body. Redirects are not followed (servers
forward by themselves), and neither proxies nor `VAULT_*` of the environment are looked at: only what
the constructor is given.
"""

from __future__ import annotations

import asyncio
import functools
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from keyservice.errors import Unavailable
from keyservice.vault.login import Login, Refused, Tokens

RETRY_AFTER = 5.0
FIRST_DELAY = 0.05
LONGEST_DELAY = 1.0
ATTEMPTS = 4
ANSWERS = frozenset({200, 204, 400, 404})
"""Answers that the caller reads; every other status is mapped here."""

NOT_DONE = frozenset({307, 412, 429, 472, 473, 503})
"""Refused before anything was done: standing by, behind, throttled, sealed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status of `ANSWERS`, and the JSON that came with it (empty for none)."""

    status: int
    body: Mapping[str, Any] = field(repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """The part of the answer that the asked engine filled."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def errors(self) -> str:
        """What Vault said went wrong, for looking for known words; never to be passed on."""
        return " ".join(str(error) for error in self.body.get("errors") or ())


def unexpected(answer: Answer, engine: str) -> Unavailable:
    """Return what an answer means that a Vault which was set up does not give."""
    return Unavailable(f"vault {engine} answered {answer.status}: was setup-vault run?")


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent, and the statuses that the caller reads."""

    method: str
    path: str
    body: Mapping[str, Any] | None = field(repr=False)
    readable: frozenset[int] = ANSWERS


class Sealed(Unavailable):
    """Vault is there and sealed: whoever holds its unseal keys has to open it."""


class _Passing(Unavailable):
    """A failure that another attempt may not meet; `done`: the server may have acted on this one."""

    def __init__(self, message: str, *, done: bool, retry_after: float = RETRY_AFTER) -> None:
        super().__init__(message, retry_after=retry_after)
        self.done = done


class VaultSession:
    """One Vault, one identity, a few threads."""

    def __init__(
        self,
        address: str,
        login: Login,
        *,
        ca_file: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        namespace: str | None = None,
        timeout: float = 3.0,
        deadline: float = 8.0,
        threads: int = 8,
    ) -> None:
        self._timeout = timeout
        self._deadline = deadline
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vault")
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=threads))
        session.verify = str(ca_file) if ca_file else True
        if certificate:
            session.cert = (str(certificate[0]), str(certificate[1]))
        self._adapter = RawAdapter(
            base_uri=address,
            session=session,
            namespace=namespace,
            allow_redirects=False,
            ignore_exceptions=True,
        )
        self._tokens = Tokens(login, self._request_token)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
        deadline: float | None = None,
        readable: frozenset[int] = ANSWERS,
    ) -> Answer:
        """Send one request as this identity.

        `path` follows `/v1/`. Raises Refused when Vault forbids the path, else Unavailable.
        Set `repeatable` to false when doing it twice differs from doing it once; `deadline`, in
        seconds, may only shorten the session's own. Statuses beyond `readable` are failures; with 403
        in it, a token that Vault has lost is the caller's to tell from a path that it forbids.
        """
        if self._closing.is_set():
            raise Unavailable("vault session is closed")
        seconds = min(deadline or self._deadline, self._deadline)
        until = time.monotonic() + seconds
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                work = functools.partial(
                    self._call,
                    _Request(method, path, body, readable),
                    repeatable=repeatable,
                    until=until,
                )
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise Unavailable("vault did not answer in time", retry_after=RETRY_AFTER) from None

    async def close(self) -> None:
        """Drop connections and threads; idempotent. A call under way ends as Unavailable."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._adapter.close()

    def _call(self, request: _Request, *, repeatable: bool, until: float) -> Answer:
        failure = _silent(done=False)
        fresh = False
        attempt = 0
        while time.monotonic() < until and not self._closing.is_set():
            try:
                token = self._tokens.current()
                answer = self._send(request, token, until)
            except _Passing as passing:
                failure = passing
                attempt += 1
                if attempt == ATTEMPTS or (passing.done and not repeatable):
                    break
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2**attempt)
                self._closing.wait(random.uniform(delay / 2, delay))  # noqa: S311 - jitter
                continue
            if answer.status != requests.codes.forbidden or answer.status in request.readable:
                return answer
            # A token revoked meanwhile looks like a forbidden path: log in once and see.
            if fresh:
                self._tokens.forbidden()
            if fresh or not self._tokens.lost(token):
                raise Refused("vault forbids the path to this identity", retry_after=RETRY_AFTER)
            fresh = True
        raise failure

    def _request_token(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str
    ) -> Mapping[str, Any]:
        try:
            until = time.monotonic() + self._timeout
            answer = self._send(_Request(method, path, body), token, until)
        except _Passing as passing:
            passing.done = False  # a log-in only: the call itself was not sent
            raise
        if answer.status != requests.codes.ok:
            raise Refused("vault refuses the log-in", retry_after=RETRY_AFTER)
        return answer.body

    def _send(self, request: _Request, token: str, until: float) -> Answer:
        """Return an answer, 403 included; raise `_Passing`, or Unavailable that lasts."""
        left = max(0.05, min(self._timeout, until - time.monotonic()))
        headers = {"X-Vault-Token": token} if token else {}
        try:
            response = self._adapter.request(
                request.method,
                f"/v1/{request.path}",
                headers=headers,
                json=request.body,
                timeout=left,
            )
            content = response.json() if response.content else {}
        except requests.exceptions.SSLError:
            raise Unavailable("vault's certificate is not trusted", retry_after=60.0) from None
        except requests.ConnectTimeout:
            raise _silent(done=False) from None
        except requests.ConnectionError as error:
            raise _silent(done=not _never_sent(error)) from None
        except (requests.RequestException, OSError, ValueError):
            raise _silent(done=True) from None
        status = response.status_code
        if status in request.readable or status == requests.codes.forbidden:
            return Answer(status, content if isinstance(content, dict) else {})
        raise _refusal(status, response.headers.get("Retry-After", ""), str(content))


def _refusal(status: int, retry_after: str, content: str) -> Unavailable:
    later = float(retry_after) if retry_after.isdigit() else RETRY_AFTER
    if status == requests.codes.service_unavailable and "sealed" in content:
        return Sealed("vault is sealed", retry_after=later)
    if status == requests.codes.too_many_requests:
        if later > LONGEST_DELAY:  # to wait that long is the caller's choice, not ours
            return Unavailable("vault is throttling", retry_after=later)
        return _Passing("vault is throttling", done=False, retry_after=later)
    return _Passing(f"vault answered {status}", done=status not in NOT_DONE, retry_after=later)


def _silent(*, done: bool) -> _Passing:
    return _Passing("vault does not answer", done=done)


def _never_sent(error: requests.ConnectionError) -> bool:
    """Say whether no connection came about, so that the server cannot have seen the request."""
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)
