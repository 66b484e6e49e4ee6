"""The use cases: create a tenant, make data keys, unwrap them, rewrap them, say how a tenant is.

Guarantees, in this order for every request: the policy admits the caller or it is refused; the
tenant is active; every key of a batch has its own outcome; and the request with each KEK it used is
on the audit sink before anything is answered, refusals too. A rewrap never shows a data key, nor
does an audit record. No HTTP and no vendor is known here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from envelope import wrap as envelope_wrap
from envelope.errors import EnvelopeError
from keyservice.desk import Call, Desk, Outcome
from keyservice.errors import (
    CannotUnwrap,
    Conflict,
    Invalid,
    KeyServiceError,
    Shredded,
    Suspended,
    UnknownTenant,
)
from keyservice.keyring import Keyring, Tenancy
from keyservice.policy import Operation
from keyservice.ports import KeyStore, Root
from keyservice.records import (
    OWN,
    SHARED,
    KekState,
    KekVersion,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.wire import DataKey, WrappedKey

KEY_SIZE = 32
YIELD_EVERY = 64
T = TypeVar("T")

log = structlog.get_logger(__name__)


class KeyService:
    """One instance serves every tenant; all methods may run any number of times at once."""

    def __init__(
        self,
        *,
        root: Root,
        store: KeyStore,
        keyring: Keyring,
        desk: Desk,
        cache_ttl: dict[Tier, float],
    ) -> None:
        self._root = root
        self._store = store
        self._keyring = keyring
        self._desk = desk
        self._cache_ttl = cache_ttl

    async def create_tenant(self, call: Call, tenant: str, tier: Tier) -> bool:
        """Make sure that the tenant exists with this tier; return whether it is new."""

        async def create() -> Outcome[bool]:
            kek, new = await self._create(tenant, tier)
            return Outcome(kek, new)

        return await self._desk.one(call, tenant, Operation.CREATE_TENANT, create)

    async def data_keys(
        self, call: Call, tenant: str, contexts: Sequence[bytes]
    ) -> list[DataKey | KeyServiceError]:
        """Return a fresh data key for each context, under the tenant's current KEK."""

        async def make() -> list[Outcome[DataKey]]:
            tenancy = await self._keyring.tenancy(tenant)
            kek_id, kek = await self._current(tenancy)
            return await _each(contexts, lambda context: _make(kek, kek_id, context))

        return await self._desk.answer(call, tenant, Operation.DATA_KEYS, len(contexts), make)

    async def unwrap(
        self, call: Call, tenant: str, keys: Sequence[WrappedKey]
    ) -> list[bytes | KeyServiceError]:
        """Return the data key of each wrapped key, or why that one cannot be had."""

        async def unwrap() -> list[Outcome[bytes]]:
            tenancy = await self._keyring.tenancy(tenant)
            keks = await self._keks(tenancy, keys)
            return await _each(keys, lambda key: _open(keks, key))

        return await self._desk.answer(call, tenant, Operation.UNWRAP, len(keys), unwrap)

    async def rewrap(
        self, call: Call, tenant: str, keys: Sequence[WrappedKey]
    ) -> list[bytes | KeyServiceError]:
        """Return each wrapped key under the current KEK; one that is there already as it came."""

        async def rewrap() -> list[Outcome[bytes]]:
            tenancy = await self._keyring.tenancy(tenant)
            kek_id, kek = await self._current(tenancy)
            keks = await self._keks(tenancy, keys)
            return await _each(keys, lambda key: _rewrap(keks, kek_id, kek, key))

        return await self._desk.answer(call, tenant, Operation.REWRAP, len(keys), rewrap)

    async def tenant_status(self, call: Call, tenant: str) -> TenantRecord:
        """Return the tenant's record as it is stored now, whatever its state."""

        async def read() -> Outcome[TenantRecord]:
            return Outcome("", (await self._store.read(tenant)).record)

        return await self._desk.one(call, tenant, Operation.TENANT_STATUS, read)

    async def usable(self, call: Call, tenant: str) -> None:
        """Return if the tenant's keys may be used; raise what a use of them would be refused with."""

        async def look() -> Outcome[None]:
            kek_id, _ = await self._current(await self._keyring.tenancy(tenant))
            return Outcome(kek_id, None)

        return await self._desk.one(call, tenant, Operation.TENANT_STATUS, look)

    def fresh(self, tenant: str) -> float:
        """Return for how many seconds what was answered for the tenant just now may be kept."""
        return self._keyring.fresh(tenant)

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
            return _existing((await self._store.read(tenant)).record, tier), False
        except UnknownTenant:
            pass
        root = OWN if tier is Tier.BUSINESS else SHARED
        await self._root.create(tenant, root)
        wrapped = await self._root.wrap(tenant, root, secrets.token_bytes(KEY_SIZE))
        # Random at the end: a key store that was restored never gives one id to two KEKs.
        kek_id = f"{tenant}/1-{secrets.token_hex(4)}"
        kek = KekVersion(kek_id, wrapped, time.time_ns() // 1000, KekState.CURRENT)
        record = TenantRecord(tenant, tier, TenantState.ACTIVE, self._cache_ttl[tier], (kek,), root)
        try:
            await self._store.write(record, expected_version=0)
        except Conflict:
            return _existing((await self._store.read(tenant)).record, tier), False
        return kek_id, True


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
