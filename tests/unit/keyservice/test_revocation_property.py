"""Whatever happens in whatever order, no key is served longer than its tenant's time allows."""

import asyncio
import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from keyservice.errors import Suspended, Unavailable
from keyservice.keys.keyring import Keyring
from keyservice.records import TenantState
from tests.unit.keyservice.fakes import (
    FakeClock,
    FakeRoot,
    FakeStore,
    add_tenant,
    put,
    tenant_id,
)

TTL = {"a": 3.0, "b": 10.0}
NAMES = st.sampled_from(sorted(TTL))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), NAMES),
        st.tuples(st.just("suspend"), NAMES),
        st.tuples(st.just("resume"), NAMES),
        st.tuples(st.sampled_from(["root", "store"]), st.booleans()),
        st.tuples(st.just("wait"), st.floats(0, 6)),
    ),
    max_size=40,
)


class Model:
    """The keyring on fakes, and what is true of each tenant since when."""

    def __init__(self) -> None:
        self.clock, self.root, self.store = FakeClock(), FakeRoot(), FakeStore()
        self.keyring = Keyring(self.root, self.store, clock=self.clock)
        self.keks: dict[str, bytes] = {}
        self.suspended_at: dict[str, float] = {}

    async def begin(self) -> None:
        """Create the tenants and learn their keys from the root itself."""
        for name, ttl in TTL.items():
            record = await add_tenant(self.root, self.store, name, ttl=ttl)
            self.keks[name] = await self.root.unwrap(
                record.tenant, record.root, record.keks[0].wrapped
            )

    def set_state(self, name: str, state: TenantState) -> None:
        """Suspend or resume a tenant, in the store alone."""
        held = self.store.held[tenant_id(name)]
        put(self.root, self.store, dataclasses.replace(held.record, state=state))
        if state is TenantState.ACTIVE:
            self.suspended_at.pop(name, None)
        else:
            self.suspended_at.setdefault(name, self.clock.now)

    async def use(self, name: str) -> None:
        """Open the tenant's KEK and check that it was right to, or right not to."""
        tenant = tenant_id(name)
        try:
            tenancy = await self.keyring.tenancy(tenant)
            kek = await self.keyring.kek(tenancy, f"{tenant}/1")
        except Suspended:
            assert name in self.suspended_at
            return
        except Unavailable:
            assert self.root.down or self.store.down
            return
        assert kek == self.keks[name]
        since = self.suspended_at.get(name, self.clock.now)
        assert self.clock.now - since < TTL[name]


@settings(deadline=None)
@given(STEPS)
def test_a_revocation_holds_within_the_tenants_time(steps: list[tuple[str, object]]) -> None:
    async def run() -> None:
        model = Model()
        await model.begin()
        for step, argument in steps:
            if step == "use":
                await model.use(str(argument))
            elif step == "suspend":
                model.set_state(str(argument), TenantState.SUSPENDED)
            elif step == "resume":
                model.set_state(str(argument), TenantState.ACTIVE)
            elif step == "wait" and isinstance(argument, float):
                model.clock.now += argument
            elif step == "root":
                model.root.down = bool(argument)
            else:
                model.store.down = bool(argument)

    asyncio.run(run())
