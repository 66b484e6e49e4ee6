"""The use cases: create a tenant, make data keys, unwrap them, rewrap them, say how a tenant is.

Guarantees, in this order for every request: the policy admits the caller or it is refused; the
tenant is active and within its own rate; every key of a batch has its own outcome; and the request
with each KEK it used is on the audit sink before anything is answered, refusals too. A rewrap never
shows a data key, nor does an audit record. No HTTP and no vendor is known here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from envelope import wrap as envelope_wrap
from envelope.errors import EnvelopeError
from keyservice.access.policy import Operation
from keyservice.access.spending import Buckets
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.errors import (
    CannotUnwrap,
    Conflict,
    Invalid,
    KeyServiceError,
    Shredded,
    Suspended,
    UnknownTenant,
)
from keyservice.keys import kek as keks
from keyservice.keys import seal
from keyservice.keys.keyring import Keyring, Tenancy
from keyservice.ports import KeyStore, Root
from keyservice.records import (
    OWN,
    SHARED,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.wire import DataKey, WrappedKey

KEY_SIZE = 32
YIELD_EVERY = 64
T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What became of each key of a request, in its order.

    `revision` is that of the tenant's record which was acted upon; for `fresh` seconds the caller
    may keep what it was given, and not longer.
    """

    items: list[T | KeyServiceError]
    revision: int
    fresh: float


class KeyService:
    """One instance serves every tenant; all methods may run any number of times at once."""

    def __init__(
        self,
        *,
        root: Root,
        store: KeyStore,
        keyring: Keyring,
        desk: Desk,
        cache_ttl: Mapping[Tier, float],
        rates: Buckets | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._keyring = keyring
        self._desk = desk
        self._cache_ttl = cache_ttl
        self._rates = rates or Buckets()

    async def create_tenant(self, call: Call, tenant: str, tier: Tier) -> bool:
        """Make sure that the tenant exists with this tier; return whether it is new."""

        async def create() -> Outcome[bool]:
            kek, new = await self._create(tenant, tier)
            return Outcome(kek, new)

        return await self._desk.one(call, tenant, Operation.CREATE_TENANT, create)

    async def data_keys(
        self, call: Call, tenant: str, contexts: Sequence[bytes], *, at_least: int = 0
    ) -> Batch[DataKey]:
        """Return a fresh data key for each context, under the tenant's current KEK.

        `at_least` is the highest revision of the tenant that the caller has seen, here and below: it is
        never answered from an older one.
        """

        async def make(tenancy: Tenancy) -> list[Outcome[DataKey]]:
            kek_id, kek = await self._current(tenancy)
            return await _each(contexts, lambda context: _make(kek, kek_id, context))

        return await self._use(
            call, tenant, Operation.DATA_KEYS, make, count=len(contexts), at_least=at_least
        )

    async def unwrap(
        self, call: Call, tenant: str, keys: Sequence[WrappedKey], *, at_least: int = 0
    ) -> Batch[bytes]:
        """Return the data key of each wrapped key, or why that one cannot be had."""

        async def unwrap(tenancy: Tenancy) -> list[Outcome[bytes]]:
            keks = await self._keks(tenancy, keys)
            return await _each(keys, lambda key: _open(keks, key))

        return await self._use(
            call, tenant, Operation.UNWRAP, unwrap, count=len(keys), at_least=at_least
        )

    async def rewrap(
        self, call: Call, tenant: str, keys: Sequence[WrappedKey], *, at_least: int = 0
    ) -> Batch[bytes]:
        """Return each wrapped key under the current KEK; one that is there already as it came."""

        async def rewrap(tenancy: Tenancy) -> list[Outcome[bytes]]:
            kek_id, kek = await self._current(tenancy)
            keks = await self._keks(tenancy, keys)
            return await _each(keys, lambda key: _rewrap(keks, kek_id, kek, key))

        return await self._use(
            call, tenant, Operation.REWRAP, rewrap, count=len(keys), at_least=at_least
        )

    async def tenant_status(self, call: Call, tenant: str) -> TenantRecord:
        """Return the tenant's record as it is stored now, whatever its state."""

        async def read() -> Outcome[TenantRecord]:
            return Outcome("", (await self._keyring.read(tenant)).record)

        return await self._desk.one(call, tenant, Operation.TENANT_STATUS, read)

    async def usable(self, call: Call, tenant: str, *, at_least: int = 0) -> Batch[bytes]:
        """Return if the tenant's keys may be used; raise what a use of them would be refused with."""

        async def look(tenancy: Tenancy) -> list[Outcome[bytes]]:
            kek_id, _ = await self._current(tenancy)
            return [Outcome(kek_id, b"")]

        return await self._use(
            call, tenant, Operation.TENANT_STATUS, look, count=0, at_least=at_least
        )

    async def _use(
        self,
        call: Call,
        tenant: str,
        operation: Operation,
        work: Callable[[Tenancy], Awaitable[list[Outcome[T]]]],
        *,
        count: int,
        at_least: int,
    ) -> Batch[T]:
        used: list[Tenancy] = []

        async def admitted() -> list[Outcome[T]]:
            tenancy = await self._keyring.tenancy(tenant, at_least=at_least)
            used.append(tenancy)
            own = tenancy.record.allowance
            if own is not None and count:
                self._rates.spend((tenant, own), own.per_second, own.burst, count, "this tenant")
            return await work(tenancy)

        items = await self._desk.answer(call, tenant, operation, count, admitted)
        return Batch(items, used[0].version, self._keyring.left(used[0]))

    async def _current(self, tenancy: Tenancy) -> tuple[str, bytes]:
        version = tenancy.record.current
        if version is None:
            raise Shredded("tenant has no current KEK")
        return version.id, await self._keyring.kek(tenancy, version.id)

    async def _keks(
        self, tenancy: Tenancy, keys: Sequence[WrappedKey]
    ) -> dict[str, bytes | KeyServiceError]:
        """Open every KEK that the batch names, each once; a KEK's failure is only its items'."""
        found: dict[str, bytes | KeyServiceError] = {}
        for kek_id in dict.fromkeys(_kek_id(key) for key in keys):
            try:
                found[kek_id] = await self._keyring.kek(tenancy, kek_id)
            except KeyServiceError as error:
                found[kek_id] = error
        return found

    async def _create(self, tenant: str, tier: Tier) -> tuple[str, bool]:
        try:
            return _existing((await self._keyring.read(tenant)).record, tier), False
        except UnknownTenant:
            pass
        root = OWN if tier is Tier.BUSINESS else SHARED
        await self._root.create(tenant, root)
        key, kek = await keks.draw(self._root, tenant, root, 1)
        ttl = self._cache_ttl[tier]
        record = TenantRecord(tenant, tier, TenantState.ACTIVE, ttl, (kek,), root, revision=1)
        try:
            await self._store.write(seal.seal(key, record), expected_version=0)
        except Conflict:
            return _existing((await self._keyring.read(tenant)).record, tier), False
        return kek.id, True


def _existing(record: TenantRecord, tier: Tier) -> str:
    if record.state is TenantState.SHREDDED:
        raise Shredded("tenant's keys are destroyed; it cannot be created again")
    if record.state is not TenantState.ACTIVE:
        raise Suspended("tenant exists and is suspended")
    if record.tier is not tier:
        raise Invalid(f"tenant exists with tier {record.tier.value}")
    return record.current.id if record.current else ""


async def _each(
    items: Sequence[WrappedKey] | Sequence[bytes], work: Callable[..., Outcome[T]]
) -> list[Outcome[T]]:
    """Do the work for each item, letting others run now and then."""
    outcomes: list[Outcome[T]] = []
    for number, item in enumerate(items, 1):
        outcomes.append(work(item))
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return outcomes


def _make(kek: bytes, kek_id: str, context: bytes) -> Outcome[DataKey]:
    dek = secrets.token_bytes(KEY_SIZE)
    wrapped = envelope_wrap.wrap(kek, kek_id, dek, context)
    return Outcome(kek_id, DataKey(dek, wrapped, kek_id))


def _open(keks: dict[str, bytes | KeyServiceError], key: WrappedKey) -> Outcome[bytes]:
    kek_id = _kek_id(key)
    kek = keks[kek_id]
    if isinstance(kek, CannotUnwrap):
        # The id is the caller's claim, of no key of this tenant: it is not put on record.
        return Outcome("", kek)
    if isinstance(kek, KeyServiceError):
        return Outcome(kek_id, kek)
    try:
        return Outcome(kek_id, envelope_wrap.unwrap(kek, key.wrapped, key.context))
    except EnvelopeError:
        return Outcome(kek_id, CannotUnwrap())


def _rewrap(
    keks: dict[str, bytes | KeyServiceError], kek_id: str, kek: bytes, key: WrappedKey
) -> Outcome[bytes]:
    opened = _open(keks, key)
    if isinstance(opened.value, KeyServiceError) or opened.kek == kek_id:
        value = opened.value if isinstance(opened.value, KeyServiceError) else key.wrapped
        return Outcome(opened.kek, value)
    return Outcome(opened.kek, envelope_wrap.wrap(kek, kek_id, opened.value, key.context))


def _kek_id(key: WrappedKey) -> str:
    """Return the KEK id that a wrapped key names, empty when it names none."""
    try:
        return envelope_wrap.kek_id(key.wrapped)
    except EnvelopeError:
        return ""
