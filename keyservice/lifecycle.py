"""The use cases that change how a tenant's keys are kept: rotate, retire, move, set, suspend, resume.

Guarantees, for each: the policy admits the caller or it is refused; the record is changed once, whole, as
`change` guarantees; to repeat it is safe, after an answer that was lost as after a crash at any point;
and no data key and no body is touched. A KEK that was rotated away still unwraps until it is
retired, which is the caller's to decide: nobody here knows what is wrapped under it. Instances other than
the one that answers follow within the tenant's cache time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from keyservice import kek as keks
from keyservice.change import Changes, Decide
from keyservice.desk import Call, Desk, Outcome
from keyservice.errors import (
    Invalid,
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    WrongState,
)
from keyservice.policy import Operation
from keyservice.ports import KeyStore, Root, RootVersions
from keyservice.records import (
    MAX_KEKS,
    Allowance,
    Custody,
    KekState,
    KekVersion,
    RootRef,
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
        desk: Desk,
        cache_ttl: Mapping[Tier, float],
    ) -> None:
        self._root = root
        self._store = store
        self._changes = changes
        self._desk = desk
        self._cache_ttl = cache_ttl

    async def rotate_kek(self, call: Call, tenant: str, expected: str) -> TenantRecord:
        """Give the tenant a new current KEK in place of `expected`; another one current is left."""

        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_active(record)
            if record.current is None or record.current.id != expected:
                return record
            _, new = await keks.draw(self._root, tenant, record.root, keks.last_number(record) + 1)
            old = tuple(_retired(kek) if kek.id == expected else kek for kek in record.keks)
            return replace(record, keks=(*_room(old), new))

        return await self._change(call, tenant, Operation.ROTATE_KEK, decide)

    async def retire_kek(self, call: Call, tenant: str, kek: str) -> TenantRecord:
        """Destroy a KEK that is not current: nothing that is wrapped under it ever opens again.

        The caller has made sure that nothing is. What the key store remembers of it goes too.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_active(record)
            found = next((each for each in record.keks if each.id == kek), None)
            if found is None:
                raise Invalid("tenant has no such KEK")
            if found.state is KekState.CURRENT:
                raise WrongState("the KEK is current: rotate it first")
            gone = replace(found, state=KekState.DESTROYED, wrapped="")
            return replace(record, keks=tuple(gone if k.id == kek else k for k in record.keks))

        async def retire() -> Outcome[TenantRecord]:
            record = await self._changes.make(tenant, decide)
            await self._store.forget(tenant, record.revision)
            return Outcome(kek, record)

        return await self._desk.one(call, tenant, Operation.RETIRE_KEK, retire)

    async def rotate_root(self, call: Call, tenant: str) -> TenantRecord:
        """Give the tenant's own root a new version, wrap all KEKs under it, and retire the older ones.

        A rotation that was begun, by whomever, is finished and no other is begun.
        """

        async def rotate() -> Outcome[TenantRecord]:
            record = await self._changes.make(tenant, _rotates_its_root)
            versions = await self._root.versions(tenant, record.root)
            if versions.latest == versions.minimum:
                await self._root.rotate(tenant, record.root)
            record = await self._changes.make(tenant, self._rewrapped(_rotates_its_root))
            await self._root.retire(tenant, record.root, _oldest(record))
            return Outcome("", record)

        return await self._desk.one(call, tenant, Operation.ROTATE_ROOT, rotate)

    async def rewrap_root(self, call: Call, tenant: str) -> TenantRecord:
        """Wrap all KEKs under the newest version of the tenant's root, whichever that is."""
        decide = self._rewrapped(_as_it_is)
        return await self._change(call, tenant, Operation.ROTATE_ROOT, decide)

    async def move(self, call: Call, tenant: str, tier: Tier, root: RootRef) -> TenantRecord:
        """Wrap the KEKs under another root, of the same or the other tier; nothing else moves.

        A change of tier brings that tier's settings. The old root stays until `destroy_root`.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_active(record)
            if (record.tier, record.root) == (tier, root):
                return record
            if not is_root(root):
                raise Invalid(
                    "a new own root is named by 8 hex characters, a held one as configured"
                )
            if root.custody not in CUSTODIES[tier]:
                raise Invalid(f"a {tier.value} tenant has no root of that kind")
            if root.imported and root != record.root:
                raise Invalid("a root is imported, and not moved to")
            await self._root.create(tenant, root)
            if any(_same(each, root) for each in record.left):
                raise WrongState("the tenant was moved away from this root: name a new one")
            left = record.left
            if record.root.custody is Custody.OWN:
                left = (*left, record.root)
            moved = replace(record, tier=tier, root=root, left=left)
            if tier is not record.tier:
                moved = replace(moved, cache_ttl=self._cache_ttl[tier], allowance=None)
            return await self._each_kek(moved, lambda kek: self._wrap_anew(record, root, kek))

        return await self._change(call, tenant, Operation.MOVE, decide)

    async def settings(self, call: Call, tenant: str, wanted: Wanted) -> TenantRecord:
        """Set a business tenant's own cache time and rate."""

        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_active(record)
            if record.tier is not Tier.BUSINESS:
                raise WrongState("a standard tenant has the settings of all: move it to business")
            ttl = record.cache_ttl if wanted.cache_ttl is None else wanted.cache_ttl
            allowance = None if wanted.unlimited else wanted.allowance or record.allowance
            return replace(record, cache_ttl=ttl, allowance=allowance)

        return await self._change(call, tenant, Operation.SETTINGS, decide)

    async def suspend(self, call: Call, tenant: str) -> TenantRecord:
        """Let nobody use the tenant's keys until `resume`; needs no root."""

        async def decide(record: TenantRecord) -> TenantRecord:
            if record.state is TenantState.SHREDDED:
                raise Shredded("tenant's keys are destroyed")
            if record.state is not TenantState.ACTIVE:
                return record  # an order to destroy it stops all use as well
            return replace(record, state=TenantState.SUSPENDED)

        return await self._change(call, tenant, Operation.SUSPEND, decide, proven=False)

    async def resume(self, call: Call, tenant: str) -> TenantRecord:
        """End a suspension."""

        async def decide(record: TenantRecord) -> TenantRecord:
            if record.state is TenantState.SUSPENDED:
                return replace(record, state=TenantState.ACTIVE)
            _demand_active(record)
            return record

        return await self._change(call, tenant, Operation.RESUME, decide)

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
            _demand_active(record)
            if _same(record.root, root):
                raise WrongState("the tenant's KEKs are under this root: move it first")
            return record

        async def gone(record: TenantRecord) -> TenantRecord:
            left = tuple(each for each in record.left if not _same(each, root))
            return replace(await known(record), left=left)

        async def destroy() -> Outcome[TenantRecord]:
            # Nothing moves to a root while it is among those left, so it is not in use.
            record = await self._changes.make(tenant, known)
            if any(_same(each, root) for each in record.left):
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

    def _rewrapped(self, first: Decide) -> Decide:
        """Return the decision that all KEKs be under the newest version of the root."""

        async def decide(record: TenantRecord) -> TenantRecord:
            record = await first(record)
            latest = (await self._root.versions(record.tenant, record.root)).latest

            async def newest(kek: KekVersion) -> str:
                if kek.root_version == latest:
                    return kek.wrapped
                return await self._root.rewrap(record.tenant, record.root, kek.wrapped)

            return await self._each_kek(record, newest)

        return decide

    async def _wrap_anew(self, record: TenantRecord, root: RootRef, kek: KekVersion) -> str:
        key = await self._root.unwrap(record.tenant, record.root, kek.wrapped)
        return await self._root.wrap(record.tenant, root, key)

    async def _each_kek(
        self, record: TenantRecord, work: Callable[[KekVersion], Awaitable[str]]
    ) -> TenantRecord:
        """Return the record with every KEK that still exists wrapped by `work`, a few at once."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(kek: KekVersion) -> KekVersion:
            if kek.state is KekState.DESTROYED:
                return kek
            async with slots:
                return replace(kek, wrapped=await work(kek))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(kek)) for kek in record.keks]
        except* KeyServiceError as failed:
            raise failed.exceptions[0] from None
        return replace(record, keks=tuple(task.result() for task in tasks))


async def _unchanged(record: TenantRecord) -> TenantRecord:
    return record


async def _as_it_is(record: TenantRecord) -> TenantRecord:
    _demand_active(record)
    return record


async def _rotates_its_root(record: TenantRecord) -> TenantRecord:
    _demand_active(record)
    if record.root.custody is Custody.SHARED:
        raise WrongState("the tenant shares its root: rotate the shared one, then rewrap")
    if record.root.custody is Custody.HELD:
        raise WrongState("the owner rotates this root in their own vault: rewrap it after that")
    if record.root.imported:
        raise WrongState("the owner supplies the versions of this root: import the next one")
    return record


def _demand_active(record: TenantRecord) -> None:
    if record.state is TenantState.SUSPENDED:
        raise Suspended("tenant is suspended: resume it first")
    if record.state is TenantState.SHREDDING:
        raise Shredding("tenant's keys are to be destroyed: undo the order first")
    if record.state is TenantState.SHREDDED:
        raise Shredded("tenant's keys are destroyed")


def _same(one: RootRef, other: RootRef) -> bool:
    """Say whether it is the same root key, whoever supplied it."""
    return (one.custody, one.name) == (other.custody, other.name)


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


def _oldest(record: TenantRecord) -> int:
    """Return the oldest version of the root that the record still needs."""
    return min(kek.root_version for kek in record.keks if kek.state is not KekState.DESTROYED)
