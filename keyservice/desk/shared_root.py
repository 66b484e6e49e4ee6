"""The use cases of the root that standard tenants share: rotate it, and put its old versions out of use.

Guarantees that no version is put out of use while a tenant's KEK is wrapped under it. Between the two
the caller has every standard tenant's KEKs rewrapped (`Lifecycle.rewrap_root`), in any order and as
often as it likes. In the policy and on record these have no tenant: a rule for all tenants allows them.
"""

from __future__ import annotations

import asyncio

from keyservice.access.policy import Operation
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.errors import WrongState
from keyservice.keys.keyring import Keyring
from keyservice.ports import KeyStore, Root, RootVersions
from keyservice.records import SHARED, Custody, KekState

AT_ONCE = 8
NOBODY = ""


class SharedRoot:
    """One for all standard tenants."""

    def __init__(self, *, root: Root, store: KeyStore, keyring: Keyring, desk: Desk) -> None:
        self._root = root
        self._store = store
        self._keyring = keyring
        self._desk = desk

    async def versions(self, call: Call) -> RootVersions:
        """Return which versions it has."""

        async def look() -> Outcome[RootVersions]:
            return Outcome("", await self._root.versions(NOBODY, SHARED))

        return await self._desk.one(call, NOBODY, Operation.TENANT_STATUS, look)

    async def rotate(self, call: Call, expected: int) -> RootVersions:
        """Add a version in place of `expected`; where another one is the latest it is left so."""

        async def rotate() -> Outcome[RootVersions]:
            found = await self._root.versions(NOBODY, SHARED)
            if found.latest == expected:
                await self._root.rotate(NOBODY, SHARED)
                found = await self._root.versions(NOBODY, SHARED)
            return Outcome("", found)

        return await self._desk.one(call, NOBODY, Operation.ROTATE_ROOT, rotate)

    async def retire(self, call: Call, minimum: int) -> RootVersions:
        """Put versions older than `minimum` out of use; WrongState while a KEK is under one."""

        async def retire() -> Outcome[RootVersions]:
            slots = asyncio.Semaphore(AT_ONCE)

            async def behind(tenant: str) -> bool:
                async with slots:
                    record = (await self._keyring.read(tenant)).record
                return record.root.custody is Custody.SHARED and any(
                    kek.root_version < minimum
                    for kek in record.keks
                    if kek.state is not KekState.DESTROYED
                )

            tenants = await self._store.tenants()
            found = await asyncio.gather(*(behind(tenant) for tenant in tenants))
            if number := sum(found):
                raise WrongState(f"KEKs of {number} tenants are under older versions: rewrap them")
            await self._root.retire(NOBODY, SHARED, minimum)
            return Outcome("", await self._root.versions(NOBODY, SHARED))

        return await self._desk.one(call, NOBODY, Operation.RETIRE_ROOT, retire)
