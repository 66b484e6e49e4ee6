"""The wire to a key service: one pool of connections, requests repeated while that may help.

Guarantees: every call ends within its time, retries included; it repeats only what may succeed (no
connection, no answer, Unavailable), which is safe since every operation may be repeated. Every error
is one of `wire`. For each tenant it remembers the highest revision that was seen, so that no instance
behind a load balancer answers from a record that is older.
"""

from __future__ import annotations

import asyncio
import io
import random
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from keyservice.errors import Altered, Invalid, KeyServiceError, Unavailable
from keyservice.protocol.messages import Problem, parse
from keyservice.protocol.problems import from_problem
from keyservice.records import is_tenant
from keyservice.tls import client_context

TENANTS = "/v1/tenants/"
MAX_ANSWER = 4 * 1024 * 1024
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
BACKOFF = 0.05
MAX_BACKOFF = 1.0
SUCCESS = frozenset({200, 201})
GATEWAY_FAILED = frozenset({502, 503, 504})
MAX_TENANTS = 100_000
M = TypeVar("M", bound=BaseModel)


class Revisions:
    """The highest revision that was seen of each tenant; the one longest unseen is forgotten first."""

    def __init__(self, size: int = MAX_TENANTS) -> None:
        self._size = size
        self._seen: OrderedDict[str, int] = OrderedDict()

    def of(self, tenant: str) -> int:
        """Return it, 0 for none."""
        return self._seen.get(tenant, 0)

    def saw(self, tenant: str, revision: int, *, asked: int) -> None:
        """Remember what was answered to a request for `asked` or later.

        Less than that means that the key store itself went back, which is believed.
        """
        known = 0 if revision < asked else self.of(tenant)
        self._seen[tenant] = max(revision, known)
        self._seen.move_to_end(tenant)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)


class Transport:
    """One pool of connections to one key service; `open` before use, `close` after."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        certificate: Path | None = None,
        private_key: Path | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        attempt_timeout: float = 4.0,
        attempts: int = 4,
        connections: int = 32,
    ) -> None:
        self.url = url.rstrip("/")
        self.revisions = Revisions()
        self._base = "http://localhost" if url.startswith("unix:") else self.url
        self._tls = (ca_file, certificate, private_key)
        self._token = token
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._attempts = attempts
        self._connections = connections
        # Gone with the last call of the tenant.
        self._shares: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Load the TLS files; connections are made as they are needed."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(
            connector=await self._connector(), headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Give up the connections; idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        method: str,
        path: str,
        message: BaseModel | None,
        kind: type[M],
        *,
        request_id: str = "",
        seconds: float | None = None,
    ) -> M:
        """Send the request until it is answered, its attempts are spent or its time is up."""
        body = None if message is None else message.model_dump_json().encode()
        headers = {"X-Request-Id": request_id} if request_id else {}
        failure = Unavailable("key service does not answer in time")
        try:
            async with asyncio.timeout(seconds or self._timeout) as deadline:
                for attempt in range(self._attempts):
                    try:
                        async with self._share(path):
                            return await self._attempt(
                                method,
                                path,
                                body,
                                headers,
                                kind,
                                seconds=seconds or self._attempt_timeout,
                            )
                    except Altered:
                        raise  # nobody but an operator can mend that
                    except Unavailable as error:
                        failure = error
                    await _pause(attempt, failure, deadline, last=attempt + 1 == self._attempts)
        except TimeoutError:
            pass
        raise failure

    def _share(self, path: str) -> asyncio.Semaphore:
        """Return what bounds how many connections one tenant has.

        A tenant whose owner's Vault hangs would else have all of them, and hold up the others.
        """
        tenant = path.removeprefix(TENANTS)[:32] if path.startswith(TENANTS) else ""
        found = self._shares.get(tenant)
        if found is None:
            bound = max(1, self._connections // 4) if tenant else self._connections
            found = self._shares[tenant] = asyncio.Semaphore(bound)
        return found

    async def _attempt(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        kind: type[M],
        *,
        seconds: float,
    ) -> M:
        if self._session is None:
            raise RuntimeError("key service client is not open: use it as a context manager")
        data = None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = io.BytesIO(body)  # written piece by piece, where bytes would go in one
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method, self._base + path, data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                content = await response.content.read(MAX_ANSWER + 1)
                while not response.content.at_eof() and len(content) <= MAX_ANSWER:
                    content += await response.content.read(MAX_ANSWER)
                status = response.status
        except TimeoutError:
            raise Unavailable("key service does not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"key service cannot be reached: {type(error).__name__}") from None
        if status in SUCCESS:
            return _answer(kind, content)
        raise _refusal(status, content)

    async def _connector(self) -> aiohttp.BaseConnector:
        scheme, _, rest = self.url.partition("://")
        if scheme == "unix":
            return aiohttp.UnixConnector(rest, limit=self._connections)
        if scheme == "http" and urlsplit(self.url).hostname in LOOPBACK:
            return aiohttp.TCPConnector(limit=self._connections)
        ca, certificate, private_key = self._tls
        if scheme != "https" or ca is None or certificate is None or private_key is None:
            raise ValueError("key service url must be https with three TLS files, or development's")
        context = await asyncio.to_thread(client_context, ca, certificate, private_key)
        return aiohttp.TCPConnector(limit=self._connections, ssl=context)


def demand_tenant(tenant: str) -> None:
    """Raise Invalid for what is no tenant id, before it becomes part of a path."""
    if not is_tenant(tenant):
        raise Invalid("tenant id must be 32 lower-case hex characters")


async def _pause(
    attempt: int, failure: Unavailable, deadline: asyncio.Timeout, *, last: bool
) -> None:
    """Wait before the next attempt, or raise the failure when none can be in time."""
    ceiling = min(MAX_BACKOFF, BACKOFF * 2**attempt)
    wait = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter is no secret
    if failure.retry_after is not None:
        wait += failure.retry_after
    ends = deadline.when()
    if last or (ends is not None and asyncio.get_running_loop().time() + wait >= ends):
        raise failure
    await asyncio.sleep(wait)


def checked(kind: type[M], **fields: object) -> M:
    """Build a message; the limits hold here too, so that a mistake never leaves the process."""
    try:
        return kind(**fields)
    except ValidationError as error:
        faults = (".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False))
        raise Invalid(f"request does not have the right form: {'; '.join(faults)}") from None


def _answer(kind: type[M], content: bytes) -> M:
    try:
        return parse(kind, content)
    except Invalid:
        raise KeyServiceError("key service gave an answer that is not of this protocol") from None


def _refusal(status: int, content: bytes) -> KeyServiceError:
    try:
        return from_problem(parse(Problem, content))
    except Invalid:
        pass
    if status in GATEWAY_FAILED:  # a load balancer's own words
        return Unavailable("key service is not there", retry_after=None)
    return KeyServiceError(f"key service answered {status}")
