"""All roots of an instance as one: ours, and those that customers hold themselves.

Who has a tenant's root key (`RootRef.custody`) says which one is asked. A tenant whose record names a
held root that is not configured here gets Unavailable, and nothing is connected to: no record can lead
this service to an address that its settings do not name. The settings name the tenants of a held root, and
no other tenant's KEK is ever sent there, whoever asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping

from keyservice.ports import Root, RootKind, RootStatus, RootVersions, Unconfigured
from keyservice.records import Custody, RootRef


class Roots:
    """`ours` answers for shared and own roots, and for the health of the service; `held` by name.

    `serves` says of a held root for which tenants it is; for nobody where it is not named there.
    """

    def __init__(
        self,
        ours: Root,
        held: Mapping[str, Root],
        serves: Mapping[str, Container[str]],
    ) -> None:
        self._ours = ours
        self._held = held
        self._serves = serves

    @property
    def kind(self) -> RootKind:
        """See `Root.kind`: that of ours."""
        return self._ours.kind

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`."""
        await self._for(tenant, root).create(tenant, root)

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        return await self._for(tenant, root).wrap(tenant, root, plaintext)

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        return await self._of(root).unwrap(tenant, root, wrapped)

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        return await self._of(root).rewrap(tenant, root, wrapped)

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """See `Root.rotate`."""
        return await self._of(root).rotate(tenant, root)

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """See `Root.versions`."""
        return await self._of(root).versions(tenant, root)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """See `Root.retire`."""
        await self._of(root).retire(tenant, root, minimum)

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """See `Root.destroy`."""
        await self._of(root).destroy(tenant, root)

    async def status(self) -> RootStatus:
        """See `Root.status`: of ours alone, since a customer's must stop nobody else."""
        return await self._ours.status()

    async def close(self) -> None:
        """See `Root.close`."""
        await asyncio.gather(self._ours.close(), *(held.close() for held in self._held.values()))

    def _for(self, tenant: str, root: RootRef) -> Root:
        """Return a root that may be sent this tenant's KEKs: a customer's sees what it wraps."""
        found = self._of(root)
        if root.custody is Custody.HELD and tenant not in self._serves.get(root.name, ()):
            raise Unconfigured(
                f"the vault named {root.name} is for other tenants: see tenants of [[held]]"
            )
        return found

    def _of(self, root: RootRef) -> Root:
        if root.custody is not Custody.HELD:
            return self._ours
        held = self._held.get(root.name)
        if held is None:
            raise Unconfigured(f"no vault named {root.name} is configured here: see [[held]]")
        return held
