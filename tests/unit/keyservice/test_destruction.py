"""What is in the ledger is destroyed, whenever it was cut off and whatever was restored from before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyservice.errors import Shredded, UnknownTenant
from keyservice.records import (
    OWN,
    KekState,
    KekVersion,
    ShredOrder,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.shredding.destruction import Destroyer, tombstone
from keyservice.shredding.ledger import Destruction, Entry
from keyservice.shredding.ledgered import LedgeredStore
from keyservice.shredding.replay import Pace, Replay
from tests.unit.keyservice.fakes import tenant_id
from tests.unit.keyservice.shred_site import (
    Died,
    Fuse,
    MortalLedger,
    MortalRoot,
    MortalStore,
    ledger_in,
)

TENANT = tenant_id("acme")


async def business(root: MortalRoot, store: MortalStore) -> TenantRecord:
    """Put a tenant with two KEKs and an order that has begun in the store, in three versions."""
    wrapped = [await root.wrap(TENANT, OWN, secrets.token_bytes(32)) for _ in range(2)]
    order = ShredOrder(1, 2, "dns:a", "closed", ("dns:a",), TenantState.ACTIVE, "dns:b", 3)
    keks = tuple(
        KekVersion(f"{TENANT}/{number}", text, number, state)
        for number, text, state in zip(
            (1, 2), wrapped, (KekState.RETIRED, KekState.CURRENT), strict=True
        )
    )
    record = TenantRecord(TENANT, Tier.BUSINESS, TenantState.ACTIVE, 60.0, keks[:1], OWN)
    await store.write(record, 0)
    record = TenantRecord(TENANT, Tier.BUSINESS, TenantState.ACTIVE, 60.0, keks, OWN, 2)
    await store.write(record, 1)
    record = TenantRecord(
        TENANT, Tier.BUSINESS, TenantState.SHREDDING, 60.0, keks, OWN, 3, None, order
    )
    await store.write(record, 2)
    return record


def told(record: TenantRecord) -> Destruction:
    order = record.order
    assert order is not None
    keks = tuple(kek.id for kek in record.keks)
    return Destruction(
        TENANT, record.tier, record.root, keks, 3, 1, 2, order.by, order.reason, order.approved
    )


def dropped(_tenant: str) -> None:
    """Forget nothing: nothing is cached here."""


@asynccontextmanager
async def replaying(
    ledger: MortalLedger, root: MortalRoot, store: MortalStore
) -> AsyncIterator[tuple[Replay, list[Entry]]]:
    """Replay until nothing waits, and again whenever woken."""
    found: list[Entry] = []

    async def tell(entry: Entry) -> None:
        found.append(entry)

    replay = Replay(ledger, Destroyer(root, store, dropped), tell, Pace(every=600, pause=0.01))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replay.run())
        await asyncio.sleep(0)
        yield replay, found
        task.cancel()


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never was")


async def until_done(replay: Replay) -> None:
    await until(lambda: not replay.waiting)


async def assert_dead(store: MortalStore, root: MortalRoot) -> None:
    held = await store.read(TENANT)
    assert held.record.state is TenantState.SHREDDED
    assert {kek.state for kek in held.record.keks} == {KekState.DESTROYED}
    assert held.record.revision == held.version
    assert held.record.order is not None
    assert held.record.order.ended > 0
    assert store.wrapped(TENANT) == []
    assert OWN in root.destroyed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
async def test_killed_at_any_step_it_is_finished_at_the_next_start(
    tmp_path: Path, at: int, *, after: bool
) -> None:
    fuse = Fuse()
    store, root = MortalStore(fuse), MortalRoot(fuse)
    record = await business(root, store)
    ledger = ledger_in(tmp_path, fuse)
    fuse.steps, fuse.at, fuse.after = [], at, after
    try:
        entry = await ledger.add(told(record))
        await Destroyer(root, store, dropped).carry_out(entry)
    except Died:
        assert at <= 5
    else:
        assert fuse.steps == ["ledger", "write", "forget", "destroy", "write"]
    fuse.at = 0
    await ledger.close()
    again = ledger_in(tmp_path)
    known = again.of(TENANT)
    if known is None:
        assert (at, after) == (1, False), "nothing is destroyed before the entry is on the disk"
        assert await store.read(TENANT)
        assert len(store.wrapped(TENANT)) == 5
        known = await again.add(told(record))
    async with replaying(again, root, store) as (replay, _):
        await until_done(replay)
    await assert_dead(store, root)
    assert len(again.page("", 9)) == 1
    assert again.of(TENANT) == known
    await again.close()


async def test_what_was_restored_from_before_is_destroyed_again(tmp_path: Path) -> None:
    store, root, ledger = MortalStore(Fuse()), MortalRoot(Fuse()), ledger_in(tmp_path)
    record = await business(root, store)
    backup = store.snapshot()
    risen: list[str] = []
    seen = LedgeredStore(store, ledger)
    seen.risen = risen.append
    assert (await seen.read(TENANT)).record == record
    await ledger.add(told(record))
    async with replaying(ledger, root, store) as (replay, found):
        replay.wake(TENANT)
        await until_done(replay)
        await assert_dead(store, root)
        assert len(found) == 1
        root.destroyed.clear()
        root.generations.clear()
        store.restore(backup)
        shown = (await seen.read(TENANT)).record
        assert shown.state is TenantState.SHREDDED, "dead from the first look"
        assert not any(kek.wrapped for kek in shown.keks)
        assert risen == [TENANT]
        replay.wake(TENANT)
        await until_done(replay)
        assert len(found) == 2
    await assert_dead(store, root)
    risen.clear()
    assert (await seen.read(TENANT)).record.state is TenantState.SHREDDED
    assert risen == []
    await ledger.close()


async def test_the_dead_stay_dead_without_a_record_and_without_a_store(tmp_path: Path) -> None:
    store, root, ledger = MortalStore(Fuse()), MortalRoot(Fuse()), ledger_in(tmp_path)
    record = await business(root, store)
    entry = await ledger.add(told(record))
    seen = LedgeredStore(store, ledger)
    store.held.clear()
    assert (await seen.read(TENANT)).record == tombstone(entry)
    store.down = True
    held = await seen.read(TENANT)
    assert (held.record.state, held.version) == (TenantState.SHREDDED, held.record.revision)
    for version in (0, 3):
        with pytest.raises(Shredded):
            await seen.write(record, version)
    async with replaying(ledger, root, store) as (replay, _):
        await asyncio.sleep(0.05)
        assert replay.waiting == 1, "it is tried until the store answers"
        store.down = False
        await until_done(replay)
    assert (await store.read(TENANT)).record.state is TenantState.SHREDDED
    with pytest.raises(UnknownTenant):
        await seen.read(tenant_id("nobody"))
    await ledger.close()


async def test_the_dead_are_looked_at_now_and_then(tmp_path: Path) -> None:
    store, root, ledger = MortalStore(Fuse()), MortalRoot(Fuse()), ledger_in(tmp_path)
    record = await business(root, store)
    backup = store.snapshot()
    await ledger.add(told(record))
    told_of: list[Entry] = []

    async def tell(entry: Entry) -> None:
        told_of.append(entry)

    replay = Replay(ledger, Destroyer(root, store, dropped), tell, Pace(every=0.02, pause=0.01))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replay.run())
        await until(lambda: len(told_of) == 1)
        store.restore(backup)
        await until(lambda: len(told_of) == 2)
        task.cancel()
    await ledger.close()


async def test_who_is_seen_alive_while_it_is_destroyed_is_looked_at_again(tmp_path: Path) -> None:
    """A key store that is restored in that moment gives back what was just destroyed."""
    store, root, ledger = MortalStore(Fuse()), MortalRoot(Fuse()), ledger_in(tmp_path)
    record = await business(root, store)
    backup = store.snapshot()
    await ledger.add(told(record))
    times = 0

    async def tell(_: Entry) -> None:
        nonlocal times
        times += 1
        if times == 1:
            store.restore(backup)
            replay.wake(TENANT)

    replay = Replay(ledger, Destroyer(root, store, dropped), tell, Pace(every=600, pause=0.01))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replay.run())
        await until(lambda: times > 0 and not replay.waiting)
        task.cancel()
    assert times == 2
    await assert_dead(store, root)
    await ledger.close()


async def test_another_writer_meanwhile_changes_nothing(tmp_path: Path) -> None:
    """Somebody's change, decided before the entry was there, loses against the destruction."""
    store, root, ledger = MortalStore(Fuse()), MortalRoot(Fuse()), ledger_in(tmp_path)
    record = await business(root, store)
    entry = await ledger.add(told(record))

    class Racing(MortalStore):
        async def write(self, changed: TenantRecord, expected_version: int) -> int:
            if not self.raced:
                self.raced = True
                await super().write(record, expected_version)
            return await super().write(changed, expected_version)

        raced = False

    racing = Racing(Fuse())
    racing.held, racing.versions = store.held, store.versions
    assert await Destroyer(root, racing, dropped).carry_out(entry)
    await assert_dead(racing, root)
    await ledger.close()
