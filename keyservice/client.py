"""The client of the key service that the gateway uses.

Guarantees: every call ends within `timeout` seconds, retries included; it repeats only what may
succeed (no connection, no answer, Unavailable), which is safe since every operation may be
repeated; opened data keys are kept for a short time, no longer than the key service allows for the
tenant, under the tenant, the context and the wrapped key together, and a refusal of the tenant drops
all that is kept of it. Every error is one of
`wire`. What is answered from the short cache is not on the key service's record again.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from keyservice.dek_cache import DekCache
from keyservice.errors import (
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Suspended,
    Unavailable,
    UnknownTenant,
)
from keyservice.messages import (
    Created,
    CreateTenant,
    Item,
    Items,
    MakeDataKeys,
    Problem,
    StatusView,
    TenantView,
    Usable,
    UseKeys,
    parse,
)
from keyservice.problems import from_problem
from keyservice.records import is_tenant
from keyservice.tls import client_context
from keyservice.wire import MAX_BATCH, DataKey, Status, TenantKeys, WrappedKey

MAX_ANSWER = 4 * 1024 * 1024
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
BACKOFF = 0.05
MAX_BACKOFF = 1.0
SUCCESS = frozenset({200, 201})
GATEWAY_FAILED = frozenset({502, 503, 504})
FINAL = (Denied, UnknownTenant, Suspended, Shredded)
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class KeyServiceClient:
    """One pool of connections to one key service; an async context manager.

    `url` is `https://host:port` with the three TLS files, or in development `http://` on loopback
    or `unix:///path` with a token. Times are in seconds.
    """

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
        cache_size: int = 10_000,
        cache_ttl: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._base = "http://localhost" if url.startswith("unix:") else self._url
        self._tls = (ca_file, certificate, private_key)
        self._token = token
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._attempts = attempts
        self._connections = connections
        self._cache = DekCache(cache_size, cache_ttl, clock)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"KeyServiceClient({self._url!r})"

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(
            connector=await self._connector(), headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up the connections and forget every key; idempotent."""
        self._cache.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        """Make sure that the tenant exists; Invalid when it does with another tier."""
        message = _checked(CreateTenant, tenant=tenant, tier=tier)
        await self._ask("POST", "/v1/tenants", message, request_id, Created)

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return a tenant's tier and state, as the key store says now; UnknownTenant."""
        if not is_tenant(tenant):
            raise Invalid("tenant id must be 32 lower-case hex characters")
        view = await self._ask("GET", f"/v1/tenants/{tenant}", None, request_id, TenantView)
        if view.tenant != tenant:
            raise KeyServiceError("key service answered for another tenant")
        return TenantKeys(view.tier.value, view.state.value)

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        """Return if the tenant's keys may be used now, as far as may be remembered; raise why not."""
        if self._cache.usable(tenant):
            return
        asked = self._cache.now()
        if not is_tenant(tenant):
            raise Invalid("tenant id must be 32 lower-case hex characters")
        try:
            view = await self._ask("GET", f"/v1/tenants/{tenant}/usable", None, request_id, Usable)
        except FINAL:
            self._cache.forget(tenant)
            raise
        self._cache.used(tenant, self._cache.until(asked, view.fresh))

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        """Return a fresh data key for each context, in order."""
        found: list[DataKey | KeyServiceError] = []
        for batch in _batches(contexts):
            message = _checked(MakeDataKeys, reason=reason, contexts=tuple(batch))
            answer = await self._use(tenant, "data-keys", message, request_id, len(batch))
            found += [_data_key(item, answer.fresh) for item in answer.items]
        return found

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Return the data key of each wrapped key, in order, or why it cannot be had."""
        found: list[bytes | KeyServiceError | None] = [self._cache.get(tenant, k) for k in keys]
        missing = [number for number, dek in enumerate(found) if dek is None]
        asked = [keys[number] for number in missing]
        answers = await self._each(
            tenant, "unwrap", asked, reason=reason, request_id=request_id, read=_dek
        )
        for number, (answer, until) in zip(missing, answers, strict=True):
            found[number] = answer
            if isinstance(answer, bytes):
                self._cache.put(tenant, keys[number], answer, until)
        return [dek for dek in found if dek is not None]

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Return each wrapped key under the tenant's current KEK, in order."""
        answers = await self._each(
            tenant, "rewrap", keys, reason=reason, request_id=request_id, read=_wrapped
        )
        return [answer for answer, _ in answers]

    async def status(self) -> Status:
        """Return what the root is and whether it answers."""
        view = await self._ask("GET", "/v1/status", None, "", StatusView)
        return Status(view.root, view.healthy, view.detail)

    async def _each(
        self,
        tenant: str,
        operation: str,
        keys: Sequence[WrappedKey],
        *,
        reason: str,
        request_id: str,
        read: Callable[[Item], bytes | KeyServiceError],
    ) -> list[tuple[bytes | KeyServiceError, float]]:
        """Return each answer, and until when it may be kept."""
        found: list[tuple[bytes | KeyServiceError, float]] = []
        for batch in _batches(keys):
            asked = tuple({"wrapped": k.wrapped, "context": k.context} for k in batch)
            message = _checked(UseKeys, reason=reason, keys=asked)
            now = self._cache.now()
            answer = await self._use(tenant, operation, message, request_id, len(batch))
            until = self._cache.until(now, answer.fresh)
            found += [(read(item), until) for item in answer.items]
        return found

    async def _use(
        self, tenant: str, operation: str, message: BaseModel, request_id: str, count: int
    ) -> Items:
        if not is_tenant(tenant):
            raise Invalid("tenant id must be 32 lower-case hex characters")
        path, asked = f"/v1/tenants/{tenant}/{operation}", self._cache.now()
        try:
            answer = await self._ask("POST", path, message, request_id, Items)
        except FINAL:
            self._cache.forget(tenant)
            raise
        if len(answer.items) != count:
            raise KeyServiceError("key service answered another number of items")
        if any(item.error is None for item in answer.items):
            self._cache.used(tenant, self._cache.until(asked, answer.fresh))
        return answer

    async def _ask(
        self, method: str, path: str, message: BaseModel | None, request_id: str, kind: type[M]
    ) -> M:
        """Send the request until it is answered, its attempts are spent or its time is up."""
        body = None if message is None else message.model_dump_json().encode()
        headers = {"X-Request-Id": request_id} if request_id else {}
        failure = Unavailable("key service does not answer in time")
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                for attempt in range(self._attempts):
                    try:
                        return await self._attempt(method, path, body, headers, kind)
                    except Unavailable as error:
                        failure = error
                    await _pause(attempt, failure, deadline, last=attempt + 1 == self._attempts)
        except TimeoutError:
            pass
        raise failure

    async def _attempt(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        kind: type[M],
    ) -> M:
        if self._session is None:
            raise RuntimeError("key service client is not open: use it as a context manager")
        data = None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = io.BytesIO(body)  # written piece by piece, where bytes would go in one
        try:
            async with (
                asyncio.timeout(self._attempt_timeout),
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
        scheme, _, rest = self._url.partition("://")
        if scheme == "unix":
            return aiohttp.UnixConnector(rest, limit=self._connections)
        if scheme == "http" and urlsplit(self._url).hostname in LOOPBACK:
            return aiohttp.TCPConnector(limit=self._connections)
        ca, certificate, private_key = self._tls
        if scheme != "https" or ca is None or certificate is None or private_key is None:
            raise ValueError("key service url must be https with three TLS files, or development's")
        context = await asyncio.to_thread(client_context, ca, certificate, private_key)
        return aiohttp.TCPConnector(limit=self._connections, ssl=context)


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


def _checked(kind: type[M], **fields: object) -> M:
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


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MAX_BATCH):
        yield items[start : start + MAX_BATCH]


def _data_key(item: Item, fresh: float) -> DataKey | KeyServiceError:
    if item.error is not None:
        return from_problem(item.error)
    if item.dek is None or item.wrapped is None or item.kek is None:
        return KeyServiceError("key service gave an item without its key")
    return DataKey(item.dek, item.wrapped, item.kek, fresh)


def _dek(item: Item) -> bytes | KeyServiceError:
    return _one(item, item.dek)


def _wrapped(item: Item) -> bytes | KeyServiceError:
    return _one(item, item.wrapped)


def _one(item: Item, value: bytes | None) -> bytes | KeyServiceError:
    if item.error is not None:
        return from_problem(item.error)
    return KeyServiceError("key service gave an item without its key") if value is None else value
