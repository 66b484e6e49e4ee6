"""Rotates root keys: those of tenants' own, and the one that standard tenants share.

Guarantees that nothing is ever unreadable for it: a root's older versions are put out of use only once no
KEK is under them, which the key service itself makes sure of; and that whatever was interrupted is finished
when it is asked for again, without another version. No envelope, data key or body is touched, and no cache
has to forget anything, since KEKs stay what they are. A root that its owner supplies or holds is the
owner's to rotate; the KEKs under it are wrapped anew, which brings them under its newest version.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog

from gateway.duties.resumed import LEASE, resumed
from gateway.errors import GatewayError, first
from gateway.model import SYSTEM, new_id
from gateway.pacing.patience import Patience
from gateway.ports import Catalog, Runs
from keyservice.wire import (
    Denied,
    KeyServiceError,
    RootVersions,
    Shredded,
    TenantKeys,
    UnknownTenant,
    WrongState,
)

KIND: Final = "rotate-root"
REASON: Final = "rotate"
AT_ONCE: Final = 4  # tenants
_PAGE: Final = 500
_NAMED: Final = 100  # of tenants that are in the way, those that are told by id

log = structlog.get_logger()


class Control(Protocol):
    """What this asks of the key service: some of `gateway.keys.data_keys.KeyControl`."""

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Describe a tenant's keys as they are now."""

    async def rotate_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Rotate the tenant's own root, rewrap its KEKs, retire the older versions."""

    async def rewrap_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Wrap the tenant's KEKs under the newest version of its root."""

    async def shared_root(self, *, request_id: str = "") -> RootVersions:
        """Return which versions the root has that standard tenants share."""

    async def rotate_shared(
        self, expected: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Give it a version after `expected`; where another is the latest, change nothing."""

    async def retire_shared(
        self, minimum: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        """Put its versions before `minimum` out of use; WrongState while a KEK is under one."""


@dataclass(slots=True)
class OwnRoot:
    """What became of a tenant's root: `rotated`, `rewrapped` (its owner rotates it), `shared`, an error."""

    tenant: str
    done: str = ""
    error: KeyServiceError | GatewayError | None = None


@dataclass(slots=True)
class SharedRoot:
    """What became of the root that standard tenants share. `refused`: tenants that are in the way, why."""

    latest: int = 0
    minimum: int = 0
    rewrapped: int = 0  # tenants
    refused: dict[str, str] = field(default_factory=dict)
    in_use: str = ""  # why older versions could not be put out of use

    @property
    def complete(self) -> bool:
        """Whether no KEK is under an older version, and none ever will be."""
        return self.latest == self.minimum


class Roots:
    """The use case. What is busy or away is waited for with `patience`."""

    def __init__(
        self,
        catalog: Catalog,
        runs: Runs,
        control: Control,
        *,
        patience: Patience,
        lease: timedelta = LEASE,
    ) -> None:
        self._catalog = catalog
        self._runs = runs
        self._control = control
        self._patience = patience
        self._lease = lease

    async def own(self, tenants: AsyncIterator[str], told: Callable[[OwnRoot], None]) -> None:
        """Rotate the root of each of these tenants. `told` is called with each. Raises CatalogErrors."""
        turn = asyncio.Lock()

        async def lane() -> None:
            while True:
                async with turn:
                    tenant = await anext(tenants, None)
                if tenant is None:
                    return
                try:
                    done = await self._own(tenant)
                except KeyServiceError as error:
                    told(OwnRoot(tenant, error=error))
                else:
                    told(OwnRoot(tenant, done))

        await _at_once(lane)

    async def shared(self, told: Callable[[int], None] = lambda _: None) -> SharedRoot:
        """Rotate the root that standard tenants share, or finish a rotation that was begun.

        `told` is called with how many tenants more are done. Raises AlreadyRunning, RunLost, CatalogErrors
        and KeyServiceErrors.
        """
        found = SharedRoot()
        async with resumed(self._runs, KIND, "", lease=self._lease) as ledger:
            versions = await self._patience.keep(self._control.shared_root)
            if versions.latest == versions.minimum:
                expected = versions.latest
                versions = await self._patience.keep(
                    lambda: self._control.rotate_shared(
                        expected, reason=REASON, request_id=new_id()
                    )
                )
                log.info("shared root rotated", version=versions.latest)
            found.latest, found.minimum = versions.latest, versions.minimum
            await self._rewrap_all(found, told)
            await ledger.note("", {"rewrapped": found.rewrapped, "refused": len(found.refused)})
            try:
                versions = await self._patience.keep(
                    lambda: self._control.retire_shared(
                        found.latest, reason=REASON, request_id=new_id()
                    )
                )
            except (WrongState, Denied) as error:
                found.in_use = str(error)
            else:
                found.latest, found.minimum = versions.latest, versions.minimum
        return found

    async def _own(self, tenant: str) -> str:
        """Rotate one tenant's root as far as it is ours to rotate. Raises KeyServiceErrors."""
        keys = await self._patience.keep(lambda: self._control.tenant(tenant))
        if keys.root.custody == "shared":
            return "shared"
        ours = keys.root.custody == "own" and not keys.root.imported
        change = self._control.rotate_root if ours else self._control.rewrap_root
        await self._patience.keep(lambda: change(tenant, reason=REASON, request_id=new_id()))
        log.info("root rotated" if ours else "KEKs wrapped anew", tenant=tenant)
        return "rotated" if ours else "rewrapped"

    async def _rewrap_all(self, found: SharedRoot, told: Callable[[int], None]) -> None:
        """Bring the KEKs of all tenants that share the root under its newest version."""
        tenants, turn = self._sharing(), asyncio.Lock()

        async def lane() -> None:
            while True:
                async with turn:
                    tenant = await anext(tenants, None)
                if tenant is None:
                    return
                try:
                    await self._rewrap(tenant, found)
                except KeyServiceError as error:
                    if len(found.refused) < _NAMED:
                        found.refused[tenant] = f"{error.code}: {error}"
                told(1)

        await _at_once(lane)

    async def _rewrap(self, tenant: str, found: SharedRoot) -> None:
        try:
            keys = await self._patience.keep(lambda: self._control.tenant(tenant))
        except UnknownTenant:
            return  # it never came to have keys
        if keys.root.custody != "shared" or keys.state == Shredded.code:
            return
        if any(0 < kek.root_version < found.latest for kek in keys.keks):
            await self._patience.keep(
                lambda: self._control.rewrap_root(tenant, reason=REASON, request_id=new_id())
            )
        found.rewrapped += 1

    async def _sharing(self) -> AsyncIterator[str]:
        yield SYSTEM
        after: str | None = None
        while page := await self._catalog.tenants(after, _PAGE):
            for tenant in page:
                yield tenant.id
            after = page[-1].id


async def _at_once(lane: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(AT_ONCE):
                lanes.create_task(lane())
    except BaseExceptionGroup as error:
        raise first(error) from None
