"""What may be served from the cache, to whom, and for how long."""

import asyncio
import dataclasses

import pytest

from keyservice.errors import CannotUnwrap, Shredded, Suspended, Unavailable, UnknownTenant
from keyservice.keys.flight import FlightCache
from keyservice.keys.keyring import Keyring
from keyservice.records import KekState, TenantState, Versioned
from tests.unit.keyservice.fakes import (
    FakeClock,
    FakeRoot,
    FakeStore,
    add_tenant,
    put,
    tenant_id,
)


class Ring:
    """A keyring on fakes."""

    def __init__(self, capacity: int = 100, max_ttl: float = 3600) -> None:
        self.clock, self.root, self.store = FakeClock(), FakeRoot(), FakeStore()
        self.keyring = Keyring(
            self.root, self.store, capacity=capacity, max_ttl=max_ttl, clock=self.clock
        )

    def forget_records(self) -> None:
        """Make the keyring read every record again."""
        self.keyring.tenancies = FlightCache(10, self.clock)

    async def open(self, name: str, number: int = 1) -> bytes:
        """Open one KEK of the tenant."""
        tenant = tenant_id(name)
        tenancy = await self.keyring.tenancy(tenant)
        return await self.keyring.kek(tenancy, f"{tenant}/{number}")


async def test_a_thousand_cold_unwraps_make_one_read_and_one_root_call() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a")
    found = await asyncio.gather(*(ring.open("a") for _ in range(1000)))
    assert len(set(found)) == 1
    assert ring.root.calls == ["unwrap"]
    assert ring.store.reads == 1


async def test_tenants_never_share_an_entry() -> None:
    ring = Ring()
    a = await add_tenant(ring.root, ring.store, "a")
    await add_tenant(ring.root, ring.store, "b")
    assert await ring.open("a") != await ring.open("b")
    with pytest.raises(CannotUnwrap):
        await ring.keyring.kek(await ring.keyring.tenancy(tenant_id("b")), a.keks[0].id)


async def test_the_time_of_the_tenant_bounds_both_record_and_kek() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a", ttl=10, versions=2)
    await ring.open("a", 2)
    ring.clock.now += 9
    await ring.open("a", 1)  # opened late, under a record that was read early
    ring.clock.now += 1
    await ring.open("a", 1)
    assert ring.root.calls == ["unwrap"] * 4  # the second record is proven by its current KEK
    assert ring.store.reads == 2


async def test_each_tenant_has_its_own_time() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "short", ttl=1)
    await add_tenant(ring.root, ring.store, "long", ttl=100)
    await ring.open("short")
    await ring.open("long")
    ring.clock.now += 50
    await ring.open("short")
    await ring.open("long")
    assert len(ring.root.calls) == 3


async def test_no_tenant_has_more_time_than_the_service_allows() -> None:
    ring = Ring(max_ttl=5)
    await add_tenant(ring.root, ring.store, "a", ttl=1e6)
    await ring.open("a")
    ring.clock.now += 5
    await ring.open("a")
    assert len(ring.root.calls) == 2


async def test_time_runs_from_before_the_read() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a", ttl=10)
    read = ring.store.read

    async def slow(tenant: str) -> Versioned:
        found = await read(tenant)
        ring.clock.now += 4
        return found

    ring.store.read = slow  # type: ignore[method-assign]
    tenancy = await ring.keyring.tenancy(tenant_id("a"))
    assert tenancy.deadline - ring.clock.now == 6


async def test_while_the_root_is_gone_cached_tenants_go_on_until_their_time() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "warm", ttl=10)
    await add_tenant(ring.root, ring.store, "cold", ttl=10)
    key = await ring.open("warm")
    ring.root.down = ring.store.down = True
    ring.clock.now += 9.9
    assert await ring.open("warm") == key
    with pytest.raises(Unavailable) as refused:
        await ring.open("cold")
    assert refused.value.retry_after is not None
    ring.clock.now += 0.1
    with pytest.raises(Unavailable):
        await ring.open("warm")
    ring.root.down = ring.store.down = False
    assert await ring.open("warm") == key


async def test_a_root_that_is_gone_says_when_to_come_back() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a")
    ring.root.down = True
    with pytest.raises(Unavailable) as refused:
        await ring.open("a")
    assert refused.value.retry_after == 7
    assert "fake" not in str(refused.value)


@pytest.mark.parametrize(
    ("state", "error"), [(TenantState.SUSPENDED, Suspended), (TenantState.SHREDDED, Shredded)]
)
async def test_a_tenant_that_is_not_active_is_refused_and_not_cached(
    state: TenantState, error: type[Exception]
) -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a", state=state)
    with pytest.raises(error):
        await ring.open("a")
    await add_tenant(ring.root, ring.store, "a")
    await ring.open("a")


async def test_an_unknown_tenant_is_not_cached() -> None:
    ring = Ring()
    with pytest.raises(UnknownTenant):
        await ring.open("a")
    await add_tenant(ring.root, ring.store, "a")
    await ring.open("a")


async def test_a_kek_that_changed_state_is_another_entry() -> None:
    ring = Ring()
    record = await add_tenant(ring.root, ring.store, "a", ttl=10)
    await ring.open("a")
    ring.forget_records()
    retired = dataclasses.replace(record.keks[0], state=KekState.RETIRED)
    newer = dataclasses.replace(record.keks[0], id=f"{record.tenant}/2")
    put(ring.root, ring.store, dataclasses.replace(record, keks=(retired, newer)))
    await ring.open("a")
    assert ring.root.calls == ["unwrap"] * 3


async def test_a_destroyed_kek_is_not_opened_though_it_is_cached() -> None:
    ring = Ring()
    record = await add_tenant(ring.root, ring.store, "a")
    await ring.open("a")
    ring.forget_records()
    gone = dataclasses.replace(record.keks[0], state=KekState.DESTROYED)
    newer = dataclasses.replace(record.keks[0], id=f"{record.tenant}/2")
    put(ring.root, ring.store, dataclasses.replace(record, keks=(gone, newer)))
    with pytest.raises(CannotUnwrap):
        await ring.open("a")


async def test_a_store_that_answers_with_another_tenants_record_is_not_believed() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a")
    ring.store.held[tenant_id("b")] = ring.store.held[tenant_id("a")]
    with pytest.raises(Unavailable):
        await ring.keyring.tenancy(tenant_id("b"))


async def test_the_cache_is_bounded() -> None:
    ring = Ring(capacity=3)
    for number in range(10):
        await add_tenant(ring.root, ring.store, str(number))
        await ring.open(str(number))
    assert len(ring.keyring.keks) == 3
    assert len(ring.keyring.tenancies) == 3


async def test_nothing_of_a_key_is_shown() -> None:
    ring = Ring()
    await add_tenant(ring.root, ring.store, "a")
    key = await ring.open("a")
    shown = repr(ring.keyring) + repr(ring.keyring.keks) + repr(vars(ring.keyring.keks))
    assert repr(key)[2:-1] not in shown
    assert key.hex() not in shown
