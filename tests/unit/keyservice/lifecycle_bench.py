"""Key services on fakes that change how keys are kept: instances over one root and one key store."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from keyservice.access.audit import Auditor
from keyservice.access.policy import Caller, Gate, allow_all
from keyservice.access.spending import Buckets
from keyservice.desk.change import Changes
from keyservice.desk.desk import Call, Desk
from keyservice.desk.lifecycle import Lifecycle
from keyservice.desk.service import KeyService
from keyservice.desk.shared_root import SharedRoot
from keyservice.errors import Unavailable
from keyservice.journal.journal import Journal
from keyservice.keys.keyring import Keyring
from keyservice.keys.rewrapping import Rewrapping
from keyservice.metrics import Metrics
from keyservice.ports import KeyStore, Root
from keyservice.records import Custody, KekState, RootRef, TenantRecord, Tier
from keyservice.wire import DataKey, WrappedKey
from tests.unit.keyservice.fakes import (
    FakeClock,
    FakeJournal,
    FakeRoot,
    FakeSink,
    FakeStore,
    tenant_id,
)

A, B = tenant_id("a"), tenant_id("b")
SECOND = RootRef(Custody.OWN, "0a1b2c3d")
CALL = Call(Caller(("email:admin",)), "request-1", "because")
TTLS = {Tier.STANDARD: 300.0, Tier.BUSINESS: 60.0}

METRICS = Metrics()  # shared, since it takes longer to make than all the rest


class Instance:
    """One instance: its own caches, over a root and a key store that others share."""

    def __init__(
        self,
        root: Root,
        store: KeyStore,
        clock: FakeClock | None = None,
        *,
        notice: timedelta = timedelta(),
        later: timedelta = timedelta(),
    ) -> None:
        self.clock = clock or FakeClock()
        self.sink = FakeSink()
        self.store = store
        self.keyring = Keyring(root, store, clock=self.clock)
        desk = Desk(
            Gate(allow_all("email:admin")), Auditor(self.sink, timeout=5), METRICS, journal()
        )
        self.changes = Changes(root, store, self.keyring)
        self.service = KeyService(
            root=root,
            store=store,
            keyring=self.keyring,
            desk=desk,
            cache_ttl=TTLS,
            rates=Buckets(clock=self.clock),
        )
        self.lifecycle = Lifecycle(
            root=root,
            store=store,
            changes=self.changes,
            rewrapping=Rewrapping(root),
            desk=desk,
            cache_ttl=TTLS,
            suspended=lambda _, order: order,
            notice=notice,
            clock=lambda: time.time() + later.total_seconds(),
        )
        self.shared = SharedRoot(root=root, store=store, keyring=self.keyring, desk=desk)

    async def create(self, tenant: str, tier: Tier = Tier.BUSINESS) -> TenantRecord:
        """Create a tenant and return its record."""
        await self.service.create_tenant(CALL, tenant, tier)
        return await self.record(tenant)

    async def record(self, tenant: str) -> TenantRecord:
        """Return the record as it is stored."""
        return (await self.store.read(tenant)).record

    async def key(self, tenant: str) -> DataKey:
        """Return a fresh data key of the context `c`."""
        (key,) = (await self.service.data_keys(CALL, tenant, [b"c"])).items
        assert isinstance(key, DataKey)
        return key

    async def opens(self, tenant: str, *keys: DataKey) -> bool:
        """Say whether all of them open to what they were."""
        wrapped = [WrappedKey(key.wrapped, b"c") for key in keys]
        found = (await self.service.unwrap(CALL, tenant, wrapped)).items
        return found == [key.dek for key in keys]


def journal() -> Journal:
    """Return a journal that keeps its lines in memory."""
    return Journal(FakeJournal(), instance="here")


class Site:
    """Two instances over one root and one key store."""

    def __init__(self) -> None:
        self.root, self.store = FakeRoot(), FakeStore()
        self.one, self.other = self.instance(), self.instance()

    def instance(self) -> Instance:
        return Instance(self.root, self.store)


async def rotate(instance: Instance, tenant: str = A) -> TenantRecord:
    """Rotate the tenant's KEK."""
    record = await instance.record(tenant)
    assert record.current is not None
    return await instance.lifecycle.rotate_kek(CALL, tenant, record.current.id)


class Mortal:
    """Wraps a port: the call numbered `ends` is the last, done (`after`) or not, and then it is over."""

    def __init__(self, inner: object, budget: "Budget") -> None:
        self._inner = inner
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            return await self._budget.spend(lambda: found(*args, **options))

        return call


class Budget:
    """How many calls are left."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self.calls = calls
        self.after = after

    async def spend(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call, unless it is past the end."""
        self.calls -= 1
        if self.calls < 0:
            raise Unavailable("over")
        found = await call() if self.calls > 0 or self.after else None
        if self.calls == 0:
            raise Unavailable("over")
        return found


def mortal(root: FakeRoot, store: FakeStore, calls: int, *, after: bool) -> Instance:
    """Return an instance that ends at that call of root or key store, done or not done."""
    budget = Budget(calls, after=after)
    return Instance(Mortal(root, budget), Mortal(store, budget))


def states(record: TenantRecord) -> list[KekState]:
    """Return the states of a record's KEKs in order."""
    return [kek.state for kek in record.keks]
