"""Goes round all tenants, and rotates the keys that are due; tells which rotations were missed.

Guarantees that what is due is told by the age of the keys and not by what somebody remembers, so that a
round that was missed, or interrupted anywhere, is made up for by the next one; that a rotation which made
a KEK and got no further is gone on with; and that one tenant's failure keeps no other from its turn. What is
overdue is counted after the round, for its outcome, which `overdue` reads: a worker that is in time has none.
Brings the catalog's tiers in step. How keys are rotated is `keks`'s and `roots`'.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

from gateway.duties.duty import Ledger
from gateway.errors import CatalogConflict, DutyFailed, GatewayError, first
from gateway.keys.data_keys import KeyControl
from gateway.model import SYSTEM, Tenant, moment, now
from gateway.ports import Catalog, Wraps
from gateway.rotation.due import NEVER, Schedules, Turn
from gateway.rotation.keks import Rotated, Rotation, Wish
from gateway.rotation.roots import OwnRoot, Roots
from gateway.rotation.status import DESTROYED, kek_turn, root_since
from gateway.rotation.tiers import Tiers
from keyservice.wire import Altered, KeyServiceError, TenantKeys, Unavailable, UnknownTenant

KIND: Final = "rotation"
AT_ONCE: Final = 8  # tenants that are looked at
KEYS: Final = ("kek", "root", "shared-root")
_PAGE: Final = 200
_NAMED: Final = 100  # of what is overdue, those that are told by id

log = structlog.get_logger()


class Watch(Protocol):
    """Who is told, for figures."""

    def rotated(self, of: str, *, well: bool) -> None:
        """Tell that a rotation that was due came to an end."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be done about one tenant's keys."""

    tenant: str
    kek: Turn
    root: Turn
    unfinished: bool  # a KEK was made, and something is still under an older one


class Rounds:
    """The duty. `shared_every` is for the root that standard tenants share; zero: never."""

    def __init__(
        self,
        catalog: Catalog,
        wraps: Wraps,
        control: KeyControl,
        schedules: Schedules,
        *,
        tiers: Tiers,
        rotation: Rotation,
        roots: Roots,
        shared_every: timedelta,
        watch: Watch,
        only_look: bool = False,
    ) -> None:
        self._catalog = catalog
        self._wraps = wraps
        self._control = control
        self._schedules = schedules
        self._tiers = tiers
        self._rotation = rotation
        self._roots = roots
        self._shared_every = shared_every
        self._watch = watch
        self._only_look = only_look

    async def go(self, _: Ledger) -> Mapping[str, object]:
        """Make a round. Raises CatalogErrors, Unavailable, and DutyFailed where a rotation failed."""
        before = await self.look()
        failed = Counter[str]()
        done = Counter[str]()

        def tell(of: str, error: Exception | None) -> None:
            if isinstance(error, CatalogConflict):
                return  # somebody else is at it
            (done if error is None else failed)[of] += 1
            self._watch.rotated(of, well=error is None)

        def kek(told: Rotated) -> None:
            tell("kek", told.error)

        def root(told: OwnRoot) -> None:
            tell("root", told.error)

        if not self._only_look:
            # Those that are not due first: they were begun.
            late = [each.tenant for each in before if each.unfinished and not each.kek.is_due]
            await self._rotation.keks(_each(late), Wish(fresh=False), lambda _: None)
            due = [each.tenant for each in before if each.kek.is_due]
            await self._rotation.keks(_each(due), Wish(), kek)
            await self._roots.own(_each(each.tenant for each in before if each.root.is_due), root)
            if (await self._shared()).is_due:
                tell("shared-root", await self._rotate_shared())
        outcome = {
            "tenants": len(before),
            **{f"rotated_{of}": done[of] for of in KEYS},
            **{f"failed_{of}": failed[of] for of in KEYS},
            **(await self._missed(before)),
        }
        if failed:
            raise DutyFailed("not every rotation that was due could be done", outcome)
        return outcome

    async def look(self) -> list[Outlook]:
        """Return the outlook of every tenant whose keys may be used. Raises CatalogErrors, Unavailable."""
        slots, tasks = asyncio.Semaphore(AT_ONCE), list[asyncio.Task[Outlook | None]]()

        async def one(row: Tenant | None) -> Outlook | None:
            async with slots:
                return await self._one(row)

        try:
            async with asyncio.TaskGroup() as group:
                tasks.append(group.create_task(one(None)))
                after: str | None = None
                while page := await self._catalog.tenants(after, _PAGE):
                    after = page[-1].id
                    tasks += [group.create_task(one(row)) for row in page]
        except BaseExceptionGroup as error:
            raise first(error) from None
        return [found for task in tasks if (found := task.result()) is not None]

    async def _one(self, row: Tenant | None) -> Outlook | None:
        """Look at a tenant, or at the reserved one, which has no row."""
        tenant = SYSTEM if row is None else row.id
        try:
            keys = await self._control.tenant(tenant)
            if row is not None:
                await self._tiers.follow(row, keys)
            if keys.state != "active":
                return None  # whose keys nobody may use are not rotated
            wanted = await self._schedules.of(None if row is None else tenant, keys.tier)
            ours = keys.root.custody == "own" and not keys.root.imported
            root = await self._control.root(tenant) if ours and wanted.root != NEVER else None
        except UnknownTenant:
            return None
        except KeyServiceError as error:
            if isinstance(error, Unavailable) and not isinstance(error, Altered):
                raise  # it is no matter of this tenant
            log.warning("tenant not looked at", tenant=tenant, reason=error.code)
            return None
        return Outlook(
            tenant,
            kek_turn(self._schedules, wanted, keys),
            self._schedules.turn(wanted.root, root_since(keys, root)),
            unfinished=await self._unfinished(tenant, keys),
        )

    async def _unfinished(self, tenant: str, keys: TenantKeys) -> bool:
        older = {kek.id for kek in keys.keks if kek.state not in {"current", DESTROYED}}
        if not older:
            return False
        # Copies on targets are pushed, and leftovers go, without us.
        return any(use.versions and use.kek in older for use in await self._wraps.uses(tenant))

    async def _shared(self) -> Turn:
        if self._shared_every == NEVER:
            return self._schedules.turn(NEVER, None)
        versions = await self._control.shared_root()
        made = moment(versions.created) if versions.created else None
        turn = self._schedules.turn(self._shared_every, made)
        if versions.latest != versions.minimum and not turn.is_due:
            # A rotation was begun and is to be finished.
            return Turn(turn.every, turn.since, now(), is_due=True, overdue=False)
        return turn

    async def _rotate_shared(self) -> Exception | None:
        try:
            found = await self._roots.shared()
        except (KeyServiceError, GatewayError) as error:
            log.warning("shared root not rotated", reason=type(error).__name__)
            return error
        if not found.complete:
            log.warning("shared root: older versions stay in use", tenants=len(found.refused))
        return None

    async def _missed(self, before: Iterable[Outlook]) -> Mapping[str, object]:
        """Count what is overdue now, of what was due before, and say whose it is."""
        found = []
        for each in before:
            if each.kek.is_due or each.root.is_due:
                row = None if each.tenant == SYSTEM else await self._catalog.tenant(each.tenant)
                if (again := await self._one(row)) is not None:
                    found.append(again)
        shared = await self._shared()
        missed = {
            "kek": [each.tenant for each in found if each.kek.overdue],
            "root": [each.tenant for each in found if each.root.overdue],
            "shared-root": [""] if shared.overdue else [],
        }
        for of, tenants in missed.items():
            for tenant in tenants[:_NAMED]:
                log.warning("key rotation overdue", of=of, tenant=tenant)
        return {f"overdue_{of}": len(tenants) for of, tenants in missed.items()}


async def _each(tenants: Iterable[str]) -> AsyncIterator[str]:
    for tenant in tenants:
        yield tenant
