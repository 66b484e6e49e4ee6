"""The use cases that change how a tenant's keys are kept: rotate, retire, move, set, suspend, resume.

Guarantees, for each: the policy admits the caller or it is refused; the record is changed once, whole, as
`change` guarantees; to repeat it is safe, after an answer that was lost as after a crash at any point;
and no data key and no body is touched. A KEK that was rotated away still unwraps until it is
retired, which is the caller's to decide: nobody here knows what is wrapped under it. But not before it was
out of use for as long as one administrator has to wait for any destruction, so that who rotates and retires
at once destroys nothing: by then workers have brought what was under it to the new one. Instances other than
the one that answers follow within the tenant's cache time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from keyservice.access.policy import Operation
from keyservice.desk.change import Changes, Decide
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.errors import (
    Invalid,
    Shredded,
    WrongState,
)
from keyservice.keys import kek as keks
from keyservice.keys.rewrapping import Rewrapping, demand_active, oldest, same
from keyservice.ports import KeyStore, Root, RootVersions
from keyservice.records import (
    MAX_KEKS,
    Allowance,
    Custody,
    KekState,
    KekVersion,
    RootRef,
    ShredOrder,
    TenantRecord,
    TenantState,
    Tier,
    is_root,
)

CUSTODIES: Mapping[Tier, frozenset[Custody]] = {
    Tier.STANDARD: frozenset({Custody.SHARED}),
    Tier.BUSINESS: frozenset({Custody.OWN, Custody.HELD}),
}
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """Settings of a tenant's own: None leaves one as it is, `unlimited` takes the allowance away."""

    cache_ttl: float | None = None
    allowance: Allowance | None = None
    unlimited: bool = False


class Lifecycle:
    """One for all tenants of an instance."""

    def __init__(
        self,
        *,
        root: Root,
        store: KeyStore,
        changes: Changes,
        rewrapping: Rewrapping,
        desk: Desk,
        cache_ttl: Mapping[Tier, float],
        suspended: Callable[[str, ShredOrder], ShredOrder],
        notice: timedelta = timedelta(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._store = store
        self._changes = changes
        self._rewrapping = rewrapping
        self._desk = desk
        self._cache_ttl = cache_ttl
        self._suspended = suspended  # an order, so that to undo it ends no suspension
        self._notice = notice
        self._clock = clock

    async def rotate_kek(self, call: Call, tenant: str, expected: str) -> TenantRecord:
        """Give the tenant a new current KEK in place of `expected`; another one current is left."""

        async def decide(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            if record.current is None or record.current.id != expected:
                return record
            _, new = await keks.draw(self._root, tenant, record.root, keks.last_number(record) + 1)
            old = tuple(_retired(kek) if kek.id == expected else kek for kek in record.keks)
            return replace(record, keks=(*_room(old), new))

        return await self._change(call, tenant, Operation.ROTATE_KEK, decide)

    async def retire_kek(self, call: Call, tenant: str, kek: str) -> TenantRecord:
        """Destroy a KEK that is not current: nothing that is wrapped under it ever opens again.

        The caller has made sure that nothing is. What the key store remembers of it goes too. One that was
        replaced too lately is WrongState.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            found = next((each for each in record.keks if each.id == kek), None)
            if found is None:
                raise Invalid("tenant has no such KEK")
            if found.state is KekState.CURRENT:
                raise WrongState("the KEK is current: rotate it first")
            if found.state is KekState.RETIRED:
                self._demand_notice(record, found)
            gone = replace(found, state=KekState.DESTROYED, wrapped="")
            return replace(record, keks=tuple(gone if k.id == kek else k for k in record.keks))

        async def retire() -> Outcome[TenantRecord]:
            record = await self._changes.make(tenant, decide)
            await self._store.forget(tenant, record.revision)
            return Outcome(kek, record)

        return await self._desk.one(call, tenant, Operation.RETIRE_KEK, retire)

    def retirable(self, record: TenantRecord) -> Mapping[str, int]:
        """Tell from when on each KEK that was replaced may be retired, in microseconds since the epoch."""
        # It was replaced when its successor was made.
        after = (*record.keks[1:], *record.keks[-1:])
        return {
            kek.id: successor.created + self._notice // timedelta(microseconds=1)
            for kek, successor in zip(record.keks, after, strict=True)
            if kek.state is KekState.RETIRED
        }

    def _demand_notice(self, record: TenantRecord, kek: KekVersion) -> None:
        """Refuse a KEK whose successor is younger than the notice."""
        until = _moment(self.retirable(record)[kek.id])
        if self._clock() < until.timestamp():
            raise WrongState(
                f"the KEK was replaced at {until - self._notice:%Y-%m-%dT%H:%M:%SZ}: it may be retired from"
                f" {until:%Y-%m-%dT%H:%M:%SZ} on (shred.least_days)"
            )

    async def rotate_root(self, call: Call, tenant: str) -> TenantRecord:
        """Give the tenant's own root a new version, wrap all KEKs under it, and retire the older ones.

        A rotation that was begun, by whomever, is finished and no other is begun.
        """

        async def newest(record: TenantRecord) -> TenantRecord:
            return await self._rewrapping.newest(await _rotates_its_root(record))

        async def rotate() -> Outcome[TenantRecord]:
            record = await self._changes.make(tenant, _rotates_its_root)
            versions = await self._root.versions(tenant, record.root)
            if versions.latest == versions.minimum:
                await self._root.rotate(tenant, record.root)
            record = await self._changes.make(tenant, newest)
            await self._root.retire(tenant, record.root, oldest(record))
            return Outcome("", record)

        return await self._desk.one(call, tenant, Operation.ROTATE_ROOT, rotate)

    async def rewrap_root(self, call: Call, tenant: str) -> TenantRecord:
        """Wrap all KEKs under the newest version of the tenant's root, whichever that is."""

        async def newest(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            return await self._rewrapping.newest(record)

        return await self._change(call, tenant, Operation.ROTATE_ROOT, newest)

    async def move(self, call: Call, tenant: str, tier: Tier, root: RootRef) -> TenantRecord:
        """Wrap the KEKs under another root, of the same or the other tier; nothing else moves.

        A change of tier brings that tier's settings. The old root stays until `destroy_root`.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            if (record.tier, record.root) == (tier, root):
                return record
            if not is_root(root):
                raise Invalid(
                    "a new own root is named by 8 hex characters, a held one as configured"
                )
            if same(root, record.root) and root != record.root:
                raise WrongState("this is the tenant's root already, on other terms")
            if root.custody not in CUSTODIES[tier]:
                raise Invalid(f"a {tier.value} tenant has no root of that kind")
            if root.imported and root != record.root:
                raise Invalid("a root is imported, and not moved to")
            if any(same(each, root) for each in record.left):
                raise WrongState("the tenant was moved away from this root: name a new one")
            await self._root.create(tenant, root)
            moved = replace(await self._rewrapping.moved(record, root), tier=tier)
            if tier is not record.tier:
                moved = replace(moved, cache_ttl=self._cache_ttl[tier], allowance=None)
            return moved

        return await self._change(call, tenant, Operation.MOVE, decide)

    async def settings(self, call: Call, tenant: str, wanted: Wanted) -> TenantRecord:
        """Set a business tenant's own cache time and rate."""

        async def decide(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            if record.tier is not Tier.BUSINESS:
                raise WrongState("a standard tenant has the settings of all: move it to business")
            ttl = record.cache_ttl if wanted.cache_ttl is None else wanted.cache_ttl
            allowance = None if wanted.unlimited else wanted.allowance or record.allowance
            return replace(record, cache_ttl=ttl, allowance=allowance)

        return await self._change(call, tenant, Operation.SETTINGS, decide)

    async def suspend(self, call: Call, tenant: str) -> TenantRecord:
        """Let nobody use the tenant's keys until `resume`, also once an order to destroy them is undone.

        Needs no root.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            if record.state is TenantState.SHREDDED:
                raise Shredded("tenant's keys are destroyed")
            if record.state is TenantState.SHREDDING and record.order is not None:
                # Which stops all use as well, but only until it is undone.
                return replace(record, order=self._suspended(tenant, record.order))
            if record.state is not TenantState.ACTIVE:
                return record
            return replace(record, state=TenantState.SUSPENDED)

        return await self._change(call, tenant, Operation.SUSPEND, decide, proven=False)

    async def resume(self, call: Call, tenant: str) -> TenantRecord:
        """End a suspension."""

        async def decide(record: TenantRecord) -> TenantRecord:
            if record.state is TenantState.SUSPENDED:
                return replace(record, state=TenantState.ACTIVE)
            demand_active(record)
            return record

        return await self._change(call, tenant, Operation.RESUME, decide)

    async def mend(self, call: Call, tenant: str, revision: int) -> TenantRecord:
        """Bring back the tenant's newest genuine record, after another was written over it.

        `revision` is the one that the caller expects: an attacker may have destroyed the newest.
        """

        async def mend() -> Outcome[TenantRecord]:
            return Outcome("", await self._changes.mend(tenant, revision))

        return await self._desk.one(call, tenant, Operation.MEND, mend)

    async def root_versions(self, call: Call, tenant: str) -> RootVersions:
        """Return which versions the tenant's root has."""

        async def look() -> Outcome[RootVersions]:
            record = await self._changes.make(tenant, _unchanged, proven=False)
            return Outcome("", await self._root.versions(tenant, record.root))

        return await self._desk.one(call, tenant, Operation.TENANT_STATUS, look)

    async def destroy_root(self, call: Call, tenant: str, name: str) -> TenantRecord:
        """Destroy an own root that the tenant was moved away from, and what remembers it."""
        root = RootRef(Custody.OWN, name)

        async def known(record: TenantRecord) -> TenantRecord:
            demand_active(record)
            if same(record.root, root):
                raise WrongState("the tenant's KEKs are under this root: move it first")
            return record

        async def gone(record: TenantRecord) -> TenantRecord:
            left = tuple(each for each in record.left if not same(each, root))
            return replace(await known(record), left=left)

        async def destroy() -> Outcome[TenantRecord]:
            # Nothing moves to a root while it is among those left, so it is not in use.
            record = await self._changes.make(tenant, known)
            if any(same(each, root) for each in record.left):
                await self._root.destroy(tenant, root)
                record = await self._changes.make(tenant, gone)
            await self._store.forget(tenant, record.revision)
            return Outcome("", record)

        return await self._desk.one(call, tenant, Operation.RETIRE_ROOT, destroy)

    async def _change(
        self,
        call: Call,
        tenant: str,
        operation: Operation,
        decide: Decide,
        *,
        proven: bool = True,
    ) -> TenantRecord:
        async def change() -> Outcome[TenantRecord]:
            record = await self._changes.make(tenant, decide, proven=proven)
            return Outcome(record.current.id if record.current else "", record)

        return await self._desk.one(call, tenant, operation, change)


async def _unchanged(record: TenantRecord) -> TenantRecord:
    return record


async def _as_it_is(record: TenantRecord) -> TenantRecord:
    demand_active(record)
    return record


async def _rotates_its_root(record: TenantRecord) -> TenantRecord:
    demand_active(record)
    if record.root.custody is Custody.SHARED:
        raise WrongState("the tenant shares its root: rotate the shared one, then rewrap")
    if record.root.custody is Custody.HELD:
        raise WrongState("the owner rotates this root in their own vault: rewrap it after that")
    if record.root.imported:
        raise WrongState("the owner supplies the versions of this root: import the next one")
    return record


def _retired(kek: KekVersion) -> KekVersion:
    return replace(kek, state=KekState.RETIRED)


def _room(known: tuple[KekVersion, ...]) -> tuple[KekVersion, ...]:
    """Return the KEKs with room for one more: the ids of those longest destroyed are forgotten."""
    if len(known) < MAX_KEKS:
        return known
    oldest = next((kek for kek in known if kek.state is KekState.DESTROYED), None)
    if oldest is None:
        raise WrongState("tenant has as many KEKs as a record holds: retire old ones first")
    return tuple(kek for kek in known if kek is not oldest)


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
