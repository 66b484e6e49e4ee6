"""How a tenant's keys are: every version, what is still under it, and what keeps it from being retired.

Guarantees that all of it was looked up when it was asked for: states and ages with the key service, uses in
the catalog. What it says of a target is what the catalog knows; `verification` reads what is there. Shows
ids, counts and times, no key. Where the key service does not answer, nothing is told.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.errors import first
from gateway.keys.data_keys import KeyControl
from gateway.model import moment, now
from gateway.ports import Catalog, KekUse, Wraps
from gateway.rotation.due import Schedule, Schedules, Turn
from keyservice.wire import Altered, Kek, KeyServiceError, RootVersions, TenantKeys, Unavailable

CURRENT: Final = "current"
DESTROYED: Final = "destroyed"
SETTLE: Final = timedelta(seconds=5)
"""Beside the tenant's cache time: for answers that are under way, and clocks that differ a little."""
AT_ONCE: Final = 8  # tenants
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class KekStatus:
    """One KEK. `blocks` says in words what keeps it from being retired; empty: nothing does."""

    about: Kek
    created: datetime
    use: KekUse
    last_used: datetime | None
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One tenant's keys. `root`: the versions of its root; None where the root does not answer."""

    tenant: str
    keys: TenantKeys
    root: RootVersions | None
    keks: Sequence[KekStatus]
    schedule: Schedule
    kek_turn: Turn
    root_turn: Turn

    @property
    def overdue(self) -> bool:
        """Whether a rotation was missed."""
        return self.kek_turn.overdue or self.root_turn.overdue

    @property
    def unfinished(self) -> Sequence[KekStatus]:
        """KEKs that were replaced, and under which there still is something."""
        return [each for each in self.keks if each.about.state == "retired" and used(each.use)]


class KeyStatuses:
    """The use case."""

    def __init__(
        self,
        catalog: Catalog,
        control: KeyControl,
        wraps: Wraps,
        schedules: Schedules,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._catalog = catalog
        self._control = control
        self._wraps = wraps
        self._schedules = schedules
        self._clock = clock

    async def of(self, tenant: str) -> KeyStatus:
        """Look it up. Raises NotFound, CatalogErrors and KeyServiceErrors."""
        await self._catalog.tenant(tenant)
        keys = await self._control.tenant(tenant)
        uses = {use.kek: use for use in await self._wraps.uses(tenant)}
        begun = await self._begun(tenant, keys)
        root = await self._root(tenant, keys)
        keks = [
            KekStatus(
                kek,
                moment(kek.created),
                use := uses.get(kek.id, KekUse(kek.id)),
                None if kek.last_used is None else moment(kek.last_used),
                (
                    *state_blocks(keys, kek),
                    *self._notice_blocks(kek),
                    *use_blocks(use),
                    *self._time_blocks(keys, kek, begun),
                ),
            )
            for kek in keys.keks
        ]
        wanted = await self._schedules.of(tenant, keys.tier)
        return KeyStatus(
            tenant,
            keys,
            root,
            keks,
            wanted,
            kek_turn(self._schedules, wanted, keys),
            self._schedules.turn(wanted.root, root_since(keys, root)),
        )

    async def all(self) -> Sequence[tuple[str, KeyStatus | str]]:
        """Look at every tenant; of one that the key service refuses, tell its word for why.

        Raises CatalogErrors and Unavailable.
        """
        slots, found = asyncio.Semaphore(AT_ONCE), list[asyncio.Task[KeyStatus | str]]()
        tenants: list[str] = []

        async def one(tenant: str) -> KeyStatus | str:
            async with slots:
                try:
                    return await self.of(tenant)
                except KeyServiceError as error:
                    if isinstance(error, Unavailable) and not isinstance(error, Altered):
                        raise  # it is no matter of this tenant
                    return error.code

        try:
            async with asyncio.TaskGroup() as group:
                while page := await self._catalog.tenants(tenants[-1] if tenants else None, _PAGE):
                    tenants += [each.id for each in page]
                    found += [group.create_task(one(each.id)) for each in page]
        except BaseExceptionGroup as error:
            raise first(error) from None
        return list(zip(tenants, (task.result() for task in found), strict=True))

    async def _begun(self, tenant: str, keys: TenantKeys) -> int:
        settled = settles(keys)
        return 0 if settled is None else await self._wraps.begun(tenant, settled)

    async def _root(self, tenant: str, keys: TenantKeys) -> RootVersions | None:
        if keys.state == "shredded":
            return None
        try:
            return await self._control.root(tenant)
        except Unavailable:
            return None

    def _notice_blocks(self, kek: Kek) -> tuple[str, ...]:
        notice = notice_ends(kek)
        if notice is None or self._clock() >= notice:
            return ()
        # The key service's to say; it looks again, by its own clock.
        shown = notice.isoformat(timespec="seconds")
        return (f"it may be retired from {shown} on (shred.least_days)",)

    def _time_blocks(self, keys: TenantKeys, kek: Kek, begun: int) -> tuple[str, ...]:
        settled = settles(keys)
        if kek.state != "retired" or settled is None:
            return ()
        found = []
        if self._clock() < settled:
            found.append(
                f"caches may hand out keys under it until {settled.isoformat(timespec='seconds')}"
            )
        if begun:
            found.append(f"{_count(begun, 'upload')} under way that began before it was out of use")
        return tuple(found)


def settles(keys: TenantKeys) -> datetime | None:
    """Return when nobody can have a key under an older KEK from a cache any more; None: no current KEK."""
    if keys.current is None:
        return None
    return moment(keys.current.created) + timedelta(seconds=keys.cache_ttl) + SETTLE


def notice_ends(kek: Kek) -> datetime | None:
    """Return from when on the key service lets a KEK go that was replaced; None for the others."""
    return None if kek.retirable is None else moment(kek.retirable)


def state_blocks(keys: TenantKeys, kek: Kek) -> tuple[str, ...]:
    """Say what in the states stands against retiring a KEK."""
    if kek.state == DESTROYED:
        return ()
    if keys.state != "active":
        return (f"the tenant is {keys.state}",)
    return ("it is current: rotate first",) if kek.state == CURRENT else ()


def use_blocks(use: KekUse) -> tuple[str, ...]:
    """Say what in the catalog refers to a KEK."""
    found = []
    if use.versions - use.trashed:
        found.append(_count(use.versions - use.trashed, "version"))
    if use.trashed:
        found.append(f"{_count(use.trashed, 'version')} in the trash or being purged")
    for target, copies in sorted(use.stale.items()):
        if copies:
            found.append(f"{_count(copies, 'envelope')} on {target} not yet replaced")
    if use.leftovers:
        found.append(
            f"{_count(use.leftovers, 'blob')} that a reseal replaced and that wait in the trash"
        )
    return tuple(found)


def used(use: KekUse) -> bool:
    """Tell whether anything refers to a KEK."""
    return bool(use.versions or use.leftovers or any(use.stale.values()))


def kek_turn(schedules: Schedules, wanted: Schedule, keys: TenantKeys) -> Turn:
    """Tell when a tenant's KEK is to be rotated."""
    made = None if keys.current is None else moment(keys.current.created)
    return schedules.turn(wanted.kek, made)


def root_since(keys: TenantKeys, root: RootVersions | None) -> datetime | None:
    """Return when the newest version of a root was made that is ours to rotate; None for others."""
    if keys.root.custody != "own" or keys.root.imported or root is None or not root.created:
        return None
    return moment(root.created)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
