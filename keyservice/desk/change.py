"""The one way in which a tenant's record is changed.

Guarantees: what is decided upon is the newest record, authentic, and none that was altered or written
back; of several changes at once each is decided upon the outcome of the other; what is written is
readable and sealed at the version under which the key store keeps it, and its current KEK was opened
before; what this instance has cached of the tenant is dropped, also when nobody knows whether the write
happened.
Whoever decides must stand being asked again, and to repeat a whole change must be safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from keyservice.errors import (
    Altered,
    Conflict,
    KeyServiceError,
    Suspended,
    Unavailable,
    UnknownTenant,
    WrongState,
)
from keyservice.keys import seal
from keyservice.keys.keyring import Keyring
from keyservice.ports import KeyStore, Root
from keyservice.records import TenantRecord, TenantState, from_document, to_document

ATTEMPTS = 8
HISTORY = 100  # versions back
SEAL_TIMEOUT = 2.0
Decide = Callable[[TenantRecord], Awaitable[TenantRecord]]


class Changes:
    """One for all use cases of an instance that change records."""

    def __init__(self, root: Root, store: KeyStore, keyring: Keyring) -> None:
        self._root = root
        self._store = store
        self._keyring = keyring

    async def make(self, tenant: str, decide: Decide, *, proven: bool = True) -> TenantRecord:
        """Read the record, let `decide` say what it shall be, and write that; return it.

        What `decide` returns unchanged is not written. `revision`, `sealed` and `seal` are not its
        concern. With `proven` false the root is not needed, and the record is believed in nothing but
        its state: for what only takes rights away. Raises what `decide` raises, UnknownTenant, Altered
        and Unavailable.
        """
        for _ in range(ATTEMPTS):
            held = await self._keyring.read(tenant)
            if proven and held.record.state is not TenantState.SHREDDED:
                await self._prove(held.record)
            decided = await decide(held.record)
            if decided == held.record:
                self._keyring.drop(tenant)  # what is cached may be older
                return decided
            new = await self._sealed(held.record, replace(decided, revision=held.version + 1))
            _demand_readable(new)
            try:
                await self._store.write(new, held.version)
            except Conflict:
                continue
            finally:
                self._keyring.drop(tenant)
            return new
        raise Unavailable("tenant's record keeps changing", retry_after=1.0)

    async def proven(self, record: TenantRecord) -> bool:
        """Say whether the record is in every field, its state and order too, what was sealed.

        False when the root does not answer, or did not when the state was written. Raises Altered when
        it does, and the record is not what was sealed.
        """
        try:
            kek = await self._keyring.current(record)
        except Altered:
            if record.state is TenantState.SHREDDED:
                return False  # nothing is left to prove it by
            raise
        except (Unavailable, Suspended, UnknownTenant):
            return False
        if seal.proves(kek, record):
            return True
        if not seal.proves_keys(kek, record):
            raise Altered
        return False

    async def mend(self, tenant: str, revision: int) -> TenantRecord:
        """Write the record of that revision anew, over what was altered or written back since.

        It must be the newest that is genuine. Raises WrongState when it is not, or when nothing needs to
        be mended; UnknownTenant and Unavailable.
        """
        held = await self._store.read(tenant)
        for version in range(held.version, max(0, held.version - HISTORY), -1):
            record = await self._store.past(tenant, version)
            if record is None or not await self._genuine(record, tenant, version):
                continue
            if version == held.version:
                raise WrongState("tenant record is genuine: there is nothing to mend")
            if version != revision:
                raise WrongState(f"the newest genuine record is of revision {version}")
            new = replace(record, revision=held.version + 1)
            new = seal.seal(await self._open(new), new)
            try:
                await self._store.write(new, held.version)
            except Conflict:
                raise Unavailable("tenant's record keeps changing", retry_after=1.0) from None
            finally:
                self._keyring.drop(tenant)
            return new
        raise WrongState("no genuine record is left in the key store: restore one from a copy")

    async def _genuine(self, record: TenantRecord, tenant: str, version: int) -> bool:
        if record.tenant != tenant or record.revision != version or record.current is None:
            return False
        try:
            await self._prove(record)
        except Altered:
            return False
        return True

    async def _sealed(self, old: TenantRecord, new: TenantRecord) -> TenantRecord:
        if new.state is TenantState.ACTIVE:
            await self._prove(old)
            return seal.seal(await self._open(new), new)
        try:
            async with asyncio.timeout(SEAL_TIMEOUT):
                await self._prove(old)  # never bless what nobody has proven
                return seal.seal(await self._open(new), new)
        except (KeyServiceError, TimeoutError):
            return new

    async def _prove(self, record: TenantRecord) -> None:
        """Raise Altered unless the record is what was sealed, but for a state taken away since."""
        kek = await self._keyring.current(record)
        proves = seal.proves if record.state is TenantState.ACTIVE else seal.proves_keys
        if not proves(kek, record):
            raise Altered

    async def _open(self, record: TenantRecord) -> bytes:
        current = record.current
        if current is None:
            raise KeyServiceError("tenant record has no current KEK")
        return await self._root.unwrap(record.tenant, record.root, current.wrapped)


def _demand_readable(record: TenantRecord) -> None:
    """Raise an error of ours before a record is written that nobody could read again."""
    try:
        same = from_document(to_document(record)) == record
    except ValueError:
        same = False
    if not same:
        raise KeyServiceError("tenant record would not be readable any more")
