"""The use cases of those who bring their own root key: a key to pack it for, a new root, its next version.

Guarantees: the policy admits the caller or it is refused; the tenant's KEKs are under the key that was
brought when the answer is given, or the record is as it was; to repeat a request is safe, after an answer
that was lost as after a crash, since a parcel always becomes the root of one name. A tenant supplies the
versions of its root or lets them be made here, never both. A root that was brought, and that no KEK came
under because the rest failed, stays until the same parcel is sent again.
"""

from __future__ import annotations

import hashlib

from keyservice.access.policy import Operation
from keyservice.desk.change import Changes
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.errors import WrongState
from keyservice.keys.rewrapping import Rewrapping, demand_active, oldest, same
from keyservice.ports import KeyImport, Root
from keyservice.records import Custody, RootRef, TenantRecord, Tier

NOBODY = ""


class Importing:
    """One for all tenants of an instance."""

    def __init__(
        self,
        *,
        imports: KeyImport,
        root: Root,
        rewrapping: Rewrapping,
        changes: Changes,
        desk: Desk,
    ) -> None:
        self._imports = imports
        self._root = root
        self._rewrapping = rewrapping
        self._changes = changes
        self._desk = desk

    async def wrapping_key(self, call: Call) -> str:
        """Return the public key, in PEM, for which a root key is packed."""

        async def look() -> Outcome[str]:
            return Outcome("", await self._imports.wrapping_key())

        return await self._desk.one(call, NOBODY, Operation.IMPORT_ROOT, look)

    async def bring(
        self, call: Call, tenant: str, parcel: bytes, *, rotatable: bool
    ) -> TenantRecord:
        """Make a root of the tenant's own from the parcel, and wrap all KEKs under it.

        With `rotatable` its later versions are made here; without, the tenant supplies them.
        """
        root = RootRef(Custody.OWN, hashlib.sha256(parcel).hexdigest()[:8], not rotatable)

        async def fits(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            if record.tier is not Tier.BUSINESS:
                raise WrongState("a standard tenant has no root of its own: move it to business")
            if any(same(each, root) for each in record.left):
                raise WrongState("the tenant was moved away from this root: pack the key again")
            if same(record.root, root) and record.root != root:
                raise WrongState("this parcel is the tenant's root already, on other terms")
            return record

        async def moved(record: TenantRecord) -> TenantRecord:
            if (await fits(record)).root == root:
                return record
            return await self._rewrapping.moved(record, root)

        async def bring() -> Outcome[TenantRecord]:
            await self._changes.make(tenant, fits)
            await self._imports.bring(tenant, root, parcel)
            return Outcome("", await self._changes.make(tenant, moved))

        return await self._desk.one(call, tenant, Operation.IMPORT_ROOT, bring)

    async def bring_version(self, call: Call, tenant: str, parcel: bytes) -> TenantRecord:
        """Make the parcel's key the next version of the root that the tenant supplies.

        All KEKs are wrapped under it, and older versions are put out of use.
        """

        async def newest(record: TenantRecord) -> TenantRecord:
            return await self._rewrapping.newest(await _supplies(record))

        async def bring() -> Outcome[TenantRecord]:
            root = (await self._changes.make(tenant, _supplies)).root
            await self._imports.bring_version(tenant, root, parcel)
            record = await self._changes.make(tenant, newest)
            await self._root.retire(tenant, record.root, oldest(record))
            return Outcome("", record)

        return await self._desk.one(call, tenant, Operation.IMPORT_ROOT, bring)


async def _supplies(record: TenantRecord) -> TenantRecord:
    demand_active(record)
    if record.root.custody is Custody.HELD:
        raise WrongState("the key's owner makes its versions in their own vault: rewrap after that")
    if record.root.custody is not Custody.OWN or not record.root.imported:
        raise WrongState("the versions of this root are made here: rotate it, or import a new root")
    return record
