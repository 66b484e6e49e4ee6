"""How keys are kept, changed on fakes: what each change does and refuses, and that it may end anywhere."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from keyservice.desk.lifecycle import Wanted
from keyservice.errors import (
    CannotUnwrap,
    Invalid,
    Suspended,
    Throttled,
    Unavailable,
    WrongState,
)
from keyservice.keys.rewrapping import Rewrapping
from keyservice.records import (
    MAX_KEKS,
    OWN,
    SHARED,
    Allowance,
    Custody,
    KekState,
    RootRef,
    TenantState,
    Tier,
)
from keyservice.wire import WrappedKey
from tests.unit.keyservice.fakes import put
from tests.unit.keyservice.lifecycle_bench import CALL, SECOND, A, B, Instance, Site, rotate, states


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_new_kek_wraps_and_the_old_one_still_opens(site: Site) -> None:
    await site.one.create(A)
    old = await site.one.key(A)
    record = await rotate(site.one)
    assert states(record) == [KekState.RETIRED, KekState.CURRENT]
    new = await site.one.key(A)
    assert new.kek == record.keks[1].id != old.kek
    assert new.kek.startswith(f"{A}/2-")
    assert await site.one.opens(A, old, new)
    (moved,) = (await site.one.service.rewrap(CALL, A, [WrappedKey(old.wrapped, b"c")])).items
    assert isinstance(moved, bytes)
    assert moved.startswith(new.wrapped[:40])


async def test_a_rotation_that_was_done_is_not_done_again(site: Site) -> None:
    record = await site.one.create(A)
    assert record.current is not None
    expected = record.current.id
    found = await asyncio.gather(
        *(each.lifecycle.rotate_kek(CALL, A, expected) for each in (site.one, site.other) * 3)
    )
    assert len({record.keks for record in found}) == 1
    assert len(found[0].keks) == 2


async def test_an_instance_that_is_behind_opens_what_a_newer_kek_wrapped(site: Site) -> None:
    await site.one.create(A)
    await site.other.key(A)  # has the record from before
    await rotate(site.one)
    assert await site.other.opens(A, await site.one.key(A))


async def test_a_made_up_kek_costs_no_reading(site: Site) -> None:
    await site.one.create(A)
    key = await site.one.key(A)
    reads = site.store.reads
    for forged in (key.wrapped.replace(b"/1-", b"/0-"), key.wrapped.replace(b"/1-", b"/x-")):
        found = (await site.one.service.unwrap(CALL, A, [WrappedKey(forged, b"c")])).items
        assert isinstance(found[0], CannotUnwrap)
    assert site.store.reads == reads


async def test_a_retired_kek_is_gone_with_what_remembers_it(site: Site) -> None:
    await site.one.create(A)
    old = await site.one.key(A)
    record = await rotate(site.one)
    new = await site.one.key(A)
    with pytest.raises(WrongState):
        await site.one.lifecycle.retire_kek(CALL, A, record.keks[1].id)
    with pytest.raises(Invalid):
        await site.one.lifecycle.retire_kek(CALL, A, f"{A}/7-00000000")
    for _ in range(2):
        record = await site.one.lifecycle.retire_kek(CALL, A, old.kek)
        assert states(record) == [KekState.DESTROYED, KekState.CURRENT]
        assert record.keks[0].wrapped == ""
    assert list(site.store.history[A]) == [record.revision]
    assert not await site.one.opens(A, old)
    assert await site.one.opens(A, new)


async def test_a_kek_that_was_replaced_lately_stays(site: Site) -> None:
    """Who may rotate and retire destroys nothing at once; retiring an older one has its own time."""
    week = timedelta(days=7)

    def instance(later: timedelta = timedelta()) -> Instance:
        return Instance(site.root, site.store, notice=week, later=later)

    await site.one.create(A)
    old = await site.one.key(A)
    first = (await rotate(site.one)).keks[0]
    _, second, third = (record := await rotate(site.one)).keks
    assert instance().lifecycle.retirable(record) == {
        first.id: second.created + week // timedelta(microseconds=1),
        second.id: third.created + week // timedelta(microseconds=1),
    }
    for kek in (first, second):
        with pytest.raises(WrongState, match=r"it may be retired from .* on \(shred.least_days\)"):
            await instance().lifecycle.retire_kek(CALL, A, kek.id)
    with pytest.raises(WrongState):
        await instance(week - timedelta(hours=1)).lifecycle.retire_kek(CALL, A, first.id)
    assert await site.one.opens(A, old)
    late = instance(week + timedelta(seconds=1))
    record = await late.lifecycle.retire_kek(CALL, A, first.id)
    assert states(record)[0] is KekState.DESTROYED
    assert set(instance().lifecycle.retirable(record)) == {second.id}
    again = await instance().lifecycle.retire_kek(CALL, A, first.id)
    assert again == record, "what is destroyed may be asked for again at any time"


async def test_the_ids_of_keks_long_gone_make_room(site: Site) -> None:
    record = await site.one.create(A)
    kek = record.keks[0]
    retired = tuple(
        dataclasses.replace(kek, id=f"{A}/{n}", state=KekState.RETIRED) for n in range(1, MAX_KEKS)
    )
    last = dataclasses.replace(kek, id=f"{A}/{MAX_KEKS}")
    record = put(site.root, site.store, dataclasses.replace(record, keks=(*retired, last)))
    with pytest.raises(WrongState):
        await rotate(site.one)
    record = await site.one.lifecycle.retire_kek(CALL, A, f"{A}/3")
    record = await rotate(site.one)
    assert len(record.keks) == MAX_KEKS
    assert f"{A}/3" not in {kek.id for kek in record.keks}
    assert record.keks[-1].id.startswith(f"{A}/{MAX_KEKS + 1}-")


async def test_a_rotated_root_takes_all_keks_along(site: Site) -> None:
    await site.one.create(A)
    keys = [await site.one.key(A)]
    await rotate(site.one)
    keys.append(await site.one.key(A))
    assert await site.other.opens(A, *keys)
    record = await site.one.lifecycle.rotate_root(CALL, A)
    assert {kek.root_version for kek in record.keks} == {2}
    versions = await site.one.lifecycle.root_versions(CALL, A)
    assert (versions.latest, versions.minimum) == (2, 2)
    # The other one has records that name what no longer opens, and finds its way.
    site.other.keyring.keks.drop(lambda _: True)
    assert await site.other.opens(A, *keys)
    assert await site.instance().opens(A, *keys)


async def test_a_root_is_rotated_by_who_has_it(site: Site) -> None:
    await site.one.create(A, Tier.STANDARD)
    with pytest.raises(WrongState, match="shared"):
        await site.one.lifecycle.rotate_root(CALL, A)
    record = await site.one.create(B)
    for root in (RootRef(Custody.HELD, "acme"), RootRef(Custody.OWN, imported=True)):
        wrapped = await site.root.wrap(B, root, await site.one.keyring.current(record))
        keks = (dataclasses.replace(record.keks[0], wrapped=wrapped),)
        record = put(site.root, site.store, dataclasses.replace(record, root=root, keks=keks))
        with pytest.raises(WrongState, match="owner"):
            await site.one.lifecycle.rotate_root(CALL, B)
        await site.root.rotate(B, root)
        record = await site.one.lifecycle.rewrap_root(CALL, B)
        assert [kek.root_version for kek in record.keks] == [2]


async def test_the_shared_root_rotates_under_everybody(site: Site) -> None:
    for tenant in (A, B):
        await site.one.create(tenant, Tier.STANDARD)
    keys = [await site.one.key(A), await site.one.key(B)]
    shared = site.one.shared
    for _ in range(2):
        assert (await shared.rotate(CALL, 1)).latest == 2
    with pytest.raises(WrongState, match="2 tenants"):
        await shared.retire(CALL, 2)
    await site.one.lifecycle.rewrap_root(CALL, A)
    with pytest.raises(WrongState, match="1 tenants"):
        await shared.retire(CALL, 2)
    calls = len(site.root.calls)
    await site.one.lifecycle.rewrap_root(CALL, A)
    assert "rewrap" not in site.root.calls[calls:]  # it is there already
    await site.one.lifecycle.rewrap_root(CALL, B)
    found = await shared.retire(CALL, 2)
    assert (found.latest, found.minimum) == (2, 2)
    assert await shared.versions(CALL) == found
    assert await site.other.opens(A, keys[0])
    assert await site.other.opens(B, keys[1])


async def test_a_move_takes_the_keks_and_nothing_else(site: Site) -> None:
    await site.one.create(A, Tier.STANDARD)
    key = await site.one.key(A)
    await rotate(site.one)
    wrapped = {kek.wrapped for kek in (await site.one.record(A)).keks}
    for tier, root, left in (
        (Tier.BUSINESS, OWN, ()),
        (Tier.BUSINESS, SECOND, (OWN,)),
        (Tier.STANDARD, SHARED, (OWN, SECOND)),
    ):
        record = await site.one.lifecycle.move(CALL, A, tier, root)
        assert (record.tier, record.root, record.left) == (tier, root, left)
        assert record == await site.other.lifecycle.move(CALL, A, tier, root)
        assert wrapped.isdisjoint(kek.wrapped for kek in record.keks)
        wrapped |= {kek.wrapped for kek in record.keks}
        assert await site.one.opens(A, key)
        assert await site.other.opens(A, key)
    with pytest.raises(WrongState, match="away"):
        await site.one.lifecycle.move(CALL, A, Tier.BUSINESS, OWN)


@pytest.mark.parametrize(
    ("tier", "root"),
    [
        (Tier.STANDARD, OWN),
        (Tier.BUSINESS, SHARED),
        (Tier.BUSINESS, RootRef(Custody.OWN, "0a1b2c3d", imported=True)),
    ],
)
async def test_a_root_belongs_to_its_tier(site: Site, tier: Tier, root: RootRef) -> None:
    before = await site.one.create(A)
    with pytest.raises(Invalid):
        await site.one.lifecycle.move(CALL, A, tier, root)
    assert await site.one.record(A) == before


async def test_a_tier_brings_its_settings(site: Site) -> None:
    await site.one.create(A)
    own = Wanted(0.0, Allowance(5, 10))
    record = await site.one.lifecycle.settings(CALL, A, own)
    assert (record.cache_ttl, record.allowance) == (0.0, Allowance(5, 10))
    assert await site.one.lifecycle.settings(CALL, A, Wanted()) == record
    record = await site.one.lifecycle.settings(CALL, A, Wanted(unlimited=True))
    assert (record.cache_ttl, record.allowance) == (0.0, None)
    await site.one.lifecycle.settings(CALL, A, own)
    record = await site.one.lifecycle.move(CALL, A, Tier.BUSINESS, SECOND)
    assert (record.cache_ttl, record.allowance) == (0.0, Allowance(5, 10))
    record = await site.one.lifecycle.move(CALL, A, Tier.STANDARD, SHARED)
    assert (record.cache_ttl, record.allowance) == (300.0, None)
    with pytest.raises(WrongState):
        await site.one.lifecycle.settings(CALL, A, own)


async def test_a_root_that_was_left_is_destroyed_by_name(site: Site) -> None:
    await site.one.create(A)
    key = await site.one.key(A)
    with pytest.raises(WrongState):
        await site.one.lifecycle.destroy_root(CALL, A, "")
    await site.one.lifecycle.move(CALL, A, Tier.BUSINESS, SECOND)
    for _ in range(2):
        record = await site.one.lifecycle.destroy_root(CALL, A, "")
        assert record.left == ()
    await site.one.lifecycle.destroy_root(CALL, A, "ffffffff")  # never was one
    assert site.root.calls.count("destroy") == 1
    assert list(site.store.history[A]) == [record.revision]
    assert await site.other.opens(A, key)


async def test_a_tenants_own_rate_is_kept_whoever_asks(site: Site) -> None:
    await site.one.create(A)
    await site.one.create(B)
    await site.one.lifecycle.settings(CALL, A, Wanted(allowance=Allowance(1, 3)))
    for _ in range(3):
        await site.one.key(A)
    with pytest.raises(Throttled) as refused:
        await site.one.key(A)
    assert refused.value.retry_after is not None
    await site.one.service.usable(CALL, A)  # uses no key
    await site.one.key(B)
    site.one.clock.now += refused.value.retry_after
    await site.one.key(A)


async def test_a_suspension_needs_no_root_and_ends_as_it_began(site: Site) -> None:
    await site.one.create(A)
    key = await site.one.key(A)
    for down in (False, True):
        site.root.down = down
        for _ in range(2):
            record = await site.one.lifecycle.suspend(CALL, A)
            assert record.state is TenantState.SUSPENDED
            assert (record.sealed == record.revision) is not down
        with pytest.raises(Suspended):
            await site.one.opens(A, key)
        if down:
            with pytest.raises(Unavailable):
                await site.one.lifecycle.resume(CALL, A)
        site.root.down = False
        for _ in range(2):
            record = await site.one.lifecycle.resume(CALL, A)
            assert record.state is TenantState.ACTIVE
        assert await site.one.opens(A, key)


async def test_the_other_instance_follows_within_the_tenants_time(site: Site) -> None:
    record = await site.one.create(A)
    key = await site.other.key(A)
    record = await site.one.lifecycle.suspend(CALL, A)
    assert await site.other.opens(A, key)
    with pytest.raises(Suspended):  # whoever has seen it is not given what was before
        await site.other.service.unwrap(
            CALL, A, [WrappedKey(key.wrapped, b"c")], at_least=record.revision
        )
    site.other.clock.now += record.cache_ttl
    with pytest.raises(Suspended):
        await site.other.opens(A, key)


async def test_a_caller_ahead_of_a_restored_store_is_served(site: Site) -> None:
    await site.one.create(A)
    found = await site.one.service.data_keys(CALL, A, [b"c"], at_least=99)
    assert found.revision == 1


async def test_every_change_is_on_record(site: Site) -> None:
    await site.one.create(A)
    site.one.sink.records.clear()
    await rotate(site.one)
    with pytest.raises(WrongState):
        await site.one.lifecycle.destroy_root(CALL, A, "")
    await site.one.shared.rotate(CALL, 1)
    found = [(r.operation, r.tenant, r.outcome) for r in site.one.sink.records]
    assert found == [
        ("rotate-kek", A, "ok"),
        ("retire-root", A, "wrong-state"),
        ("rotate-root", "", "ok"),
    ]


async def test_a_root_that_was_brought_is_not_left_for_itself(site: Site) -> None:
    brought = RootRef(Custody.OWN, "0a1b2c3d", imported=True)
    record = await site.one.create(A, Tier.BUSINESS)
    moved = await Rewrapping(site.root).moved(record, brought)
    put(site.root, site.store, moved)
    with pytest.raises(WrongState, match="other terms"):
        await site.one.lifecycle.move(CALL, A, Tier.BUSINESS, RootRef(Custody.OWN, brought.name))
    record = await site.one.lifecycle.suspend(CALL, A)
    assert (record.root, record.left) == (brought, (OWN,))
