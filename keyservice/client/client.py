"""The client of the key service that the gateway uses.

Guarantees, beside those of `transport`: opened data keys are kept for a short time, no longer than the key
service allows for the tenant, under the tenant, the context and the wrapped key together; a refusal of the
tenant, and a change of it that was asked for here, drops what is kept of it, and what is on its way then is
not kept. What is answered from the short cache is not on the key service's record again. Keys that several
requests need at once may travel together; each request is on record by its own id all the same, and has
waited for the others for no longer than one call may take, before its own call if it comes to that.
`control` is the face for those who administer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from envelope.errors import EnvelopeError
from envelope.wrap import kek_id
from keyservice.client.control import KeyControl
from keyservice.client.dek_cache import DekCache, Kept
from keyservice.client.gathering import Gathering
from keyservice.client.shreds import ShredControl
from keyservice.client.transport import Transport, checked, demand_tenant
from keyservice.errors import (
    Denied,
    KeyServiceError,
    Shredded,
    Suspended,
    Unavailable,
    UnknownTenant,
)
from keyservice.protocol.messages import (
    Created,
    CreateTenant,
    Item,
    Items,
    MakeDataKeys,
    StatusView,
    Usable,
    UseKeys,
)
from keyservice.protocol.problems import from_problem
from keyservice.wire import (
    MAX_BATCH,
    MAX_CONTEXT,
    MAX_WRAPPED,
    REQUEST_ID,
    DataKey,
    Status,
    TenantKeys,
    WrappedKey,
)

FINAL = (Denied, UnknownTenant, Suspended, Shredded)
T = TypeVar("T")
# Tenant, KEK, reason, and whether it has an id: what requests have in common that may go together.
Kind = tuple[str, str, str, bool]
Wanted = tuple[WrappedKey, str]  # for the request with this id
Opened = tuple[bytes | KeyServiceError, Kept]  # and until when it may be kept


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
        self._transport = Transport(
            url,
            ca_file=ca_file,
            certificate=certificate,
            private_key=private_key,
            token=token,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            attempts=attempts,
            connections=connections,
        )
        self._cache = DekCache(cache_size, cache_ttl, clock)
        self._gathering: Gathering[Kind, Wanted, Opened] = Gathering(self._unwrap, patience=timeout)
        self.control = KeyControl(self._transport, self._cache.forget)
        self.shreds = ShredControl(self._transport, self.control, self._cache.forget)

    def __repr__(self) -> str:
        return f"KeyServiceClient({self._transport.url!r})"

    async def __aenter__(self) -> Self:
        await self._transport.open()
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
        await self._transport.close()

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        """Make sure that the tenant exists; Invalid when it does with another tier."""
        message = checked(CreateTenant, tenant=tenant, tier=tier)
        await self._transport.ask("POST", "/v1/tenants", message, Created, request_id=request_id)

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return what the key store says of a tenant now; UnknownTenant."""
        return await self.control.tenant(tenant, request_id=request_id)

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        """Return if the tenant's keys may be used now, as far as may be remembered; raise why not."""
        if self.remembered(tenant):
            return
        demand_tenant(tenant)
        asked, seen = self._cache.now(), self._transport.revisions.of(tenant)
        path = f"/v1/tenants/{tenant}/usable?at_least={seen}"
        try:
            view = await self._transport.ask("GET", path, None, Usable, request_id=request_id)
        except FINAL:
            self._cache.forget(tenant)
            raise
        self._transport.revisions.saw(tenant, view.revision, asked=seen)
        self._cache.used(tenant, self._cache.until(asked, view.fresh))

    def remembered(self, tenant: str) -> bool:
        """Tell whether it is remembered that the tenant's keys may be used."""
        return self._cache.usable(tenant)

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        """Return a fresh data key for each context, in order."""
        found: list[DataKey | KeyServiceError] = []
        for batch in _batches(contexts):
            seen = self._transport.revisions.of(tenant)
            message = checked(MakeDataKeys, reason=reason, contexts=tuple(batch), at_least=seen)
            answer = await self._use(tenant, "data-keys", message, request_id, len(batch))
            found += [_data_key(item, answer.fresh) for item in answer.items]
        return found

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Return the data key of each wrapped key, in order, or why it cannot be had."""
        found: list[bytes | KeyServiceError | None] = [self._cache.get(tenant, k) for k in keys]
        missing = [number for number, dek in enumerate(found) if dek is None]
        asked = [(keys[number], request_id) for number in missing]
        if len(asked) == 1 and _in_form(*asked[0]):
            # By KEK, so that one which its owner's Vault keeps waiting holds up no other.
            # One without an id would be on record by another's.
            kind = (tenant, _kek_id(asked[0][0]), reason, bool(request_id))
            try:
                answers = [await self._gathering.one(kind, asked[0])]
            except TimeoutError:
                raise Unavailable("key service does not answer in time") from None
        else:
            answers = await self._each(tenant, "unwrap", asked, reason=reason, read=_dek)
        for number, (answer, kept) in zip(missing, answers, strict=True):
            found[number] = answer
            if isinstance(answer, bytes):
                self._cache.put(tenant, keys[number], answer, kept)
        return [dek for dek in found if dek is not None]

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        """Return each wrapped key under the tenant's current KEK, in order."""
        asked = [(key, request_id) for key in keys]
        answers = await self._each(tenant, "rewrap", asked, reason=reason, read=_wrapped)
        return [answer for answer, _ in answers]

    async def status(self) -> Status:
        """Return what the root is and whether it answers."""
        view = await self._transport.ask("GET", "/v1/status", None, StatusView)
        return Status(view.root, view.healthy, view.detail)

    async def _unwrap(self, kind: Kind, keys: Sequence[Wanted]) -> Sequence[Opened]:
        """Send together what several requests asked for."""
        tenant, _, reason, _ = kind
        return await self._each(tenant, "unwrap", keys, reason=reason, read=_dek)

    async def _each(
        self,
        tenant: str,
        operation: str,
        keys: Sequence[Wanted],
        *,
        reason: str,
        read: Callable[[Item], bytes | KeyServiceError],
    ) -> list[Opened]:
        """Return each answer, and until when it may be kept."""
        found: list[Opened] = []
        for batch in _batches(keys):
            request_id = batch[0][1]
            asked = tuple(
                {
                    "wrapped": key.wrapped,
                    "context": key.context,
                    "request": own if own != request_id else None,
                }
                for key, own in batch
            )
            seen = self._transport.revisions.of(tenant)
            message = checked(UseKeys, reason=reason, keys=asked, at_least=seen)
            now = self._cache.now()
            answer = await self._use(tenant, operation, message, request_id, len(batch))
            kept = self._cache.until(now, answer.fresh)
            found += [(read(item), kept) for item in answer.items]
        return found

    async def _use(
        self,
        tenant: str,
        operation: str,
        message: MakeDataKeys | UseKeys,
        request_id: str,
        count: int,
    ) -> Items:
        demand_tenant(tenant)
        path, asked = f"/v1/tenants/{tenant}/{operation}", self._cache.now()
        try:
            answer = await self._transport.ask("POST", path, message, Items, request_id=request_id)
        except FINAL:
            self._cache.forget(tenant)
            raise
        if len(answer.items) != count:
            raise KeyServiceError("key service answered another number of items")
        self._transport.revisions.saw(tenant, answer.revision, asked=message.at_least)
        if any(item.error is None for item in answer.items):
            self._cache.used(tenant, self._cache.until(asked, answer.fresh))
        return answer


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MAX_BATCH):
        yield items[start : start + MAX_BATCH]


def _in_form(key: WrappedKey, request_id: str) -> bool:
    """Tell whether the key service will not refuse the item, and with it what goes along, for its form."""
    sizes = 0 < len(key.wrapped) <= MAX_WRAPPED and 0 < len(key.context) <= MAX_CONTEXT
    return sizes and (not request_id or REQUEST_ID.fullmatch(request_id) is not None)


def _kek_id(key: WrappedKey) -> str:
    """Return which KEK a key says it is under, nothing if it does not say."""
    try:
        return kek_id(key.wrapped)
    except EnvelopeError:
        return ""


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
