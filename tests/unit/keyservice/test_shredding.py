"""The end of a tenant: ordered, undone, approved by somebody else, carried out once, and proven."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from envelope.signature import verify
from keyservice.access.audit import Auditor
from keyservice.access.policy import Caller, Gate, parse
from keyservice.access.spending import Buckets
from keyservice.desk.change import Changes
from keyservice.desk.desk import Call, Desk
from keyservice.desk.lifecycle import Lifecycle
from keyservice.desk.service import KeyService
from keyservice.errors import (
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    Unavailable,
    WrongState,
)
from keyservice.keys.keyring import Keyring
from keyservice.keys.rewrapping import Rewrapping
from keyservice.records import OWN, ShredOrder, TenantRecord, TenantState, Tier
from keyservice.shredding.destruction import Destroyer
from keyservice.shredding.ledger import suspended
from keyservice.shredding.ledgered import LedgeredStore
from keyservice.shredding.shredding import Notice, Shreddings
from keyservice.wire import DataKey, WrappedKey
from tests.unit.keyservice.fakes import FakeClock, FakeSink, tenant_id
from tests.unit.keyservice.lifecycle_bench import METRICS, TTLS, journal
from tests.unit.keyservice.shred_site import (
    Died,
    Fuse,
    MortalLedger,
    MortalRoot,
    MortalStore,
    ledger_in,
)

TENANT = tenant_id("acme")
ADA = Call(Caller(("email:ada", "dns:desk-1")), "r-1", "account closed")
BOB = Call(Caller(("email:bob",)), "r-2", "seen with the customer")
WORKER = Call(Caller(("dns:gateway",)), "r-3", "due")
DAY = 86_400_000_000
POLICY = """
[[rule]]
name = "all"
effect = "allow"
callers = ["*"]
tenants = ["*"]
operations = ["*"]
"""


class Instance:
    """An instance of the key service, over what others share, with a ledger of its own."""

    def __init__(self, site: Site, ledger: MortalLedger) -> None:
        self.ledger, self.sink = ledger, FakeSink()
        living = LedgeredStore(site.store, ledger)
        self.keyring = Keyring(site.root, living, clock=site.monotonic)
        desk = Desk(
            Gate(parse(POLICY), clock=site.monotonic), Auditor(self.sink), METRICS, journal()
        )
        changes = Changes(site.root, living, self.keyring)
        self.service = KeyService(
            root=site.root,
            store=living,
            keyring=self.keyring,
            desk=desk,
            cache_ttl=TTLS,
            rates=Buckets(clock=site.monotonic),
        )
        self.lifecycle = Lifecycle(
            root=site.root,
            store=living,
            changes=changes,
            rewrapping=Rewrapping(site.root),
            desk=desk,
            cache_ttl=TTLS,
            suspended=partial(suspended, ledger),
        )
        self.woken: list[str] = []
        self.shreds = Shreddings(
            changes=changes,
            ledger=ledger,
            destroyer=Destroyer(site.root, site.store, self.keyring.drop, lambda: site.time),
            wake=self.woken.append,
            desk=desk,
            notice=Notice(30, 7),
            clock=lambda: site.time,
        )

    async def key(self) -> DataKey:
        """Return a fresh data key."""
        (key,) = (await self.service.data_keys(ADA, TENANT, [b"c"])).items
        assert isinstance(key, DataKey)
        return key

    async def opens(self, key: DataKey) -> bool:
        """Say whether it opens."""
        found = await self.service.unwrap(ADA, TENANT, [WrappedKey(key.wrapped, b"c")])
        return found.items == [key.dek]


class Site:
    """A root and a key store, time, and instances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fuse = Fuse()
        self.store, self.root = MortalStore(self.fuse), MortalRoot(self.fuse)
        self.monotonic = FakeClock()
        self.time = 1_000 * DAY
        self.one = self.instance("one")

    def instance(self, name: str, *trusted: str) -> Instance:
        return Instance(self, ledger_in(self.folder / name, self.fuse, *trusted))

    async def record(self) -> TenantRecord:
        return (await self.store.read(TENANT)).record


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give a site with a business tenant that has two KEKs."""
    site = Site(tmp_path)
    await site.one.service.create_tenant(ADA, TENANT, Tier.BUSINESS)
    current = (await site.record()).current
    assert current is not None
    await site.one.lifecycle.rotate_kek(ADA, TENANT, current.id)
    yield site
    await site.one.ledger.close()


async def test_an_ordered_tenants_keys_are_used_by_nobody_until_it_is_undone(site: Site) -> None:
    key = await site.one.key()
    record = await site.one.shreds.order(ADA, TENANT)
    assert record.order is not None
    assert record.order.due == site.time + 30 * DAY
    with pytest.raises(Shredding, match="undo the order"):
        await site.one.opens(key)
    with pytest.raises(Suspended):
        await site.one.key()
    assert len(site.store.wrapped(TENANT)) > 0, "nothing is destroyed yet"
    undone = await site.one.shreds.undo(BOB, TENANT)
    assert (undone.state, undone.order) == (TenantState.ACTIVE, None)
    assert await site.one.opens(key)
    assert await site.one.shreds.undo(BOB, TENANT) == undone, "asked again after a lost answer"


@pytest.mark.parametrize("later", [False, True])
async def test_an_order_on_a_suspended_tenant_is_undone_to_suspended(
    site: Site, *, later: bool
) -> None:
    if later:
        await site.one.shreds.order(ADA, TENANT, 7)
    held = await site.one.lifecycle.suspend(ADA, TENANT)
    assert await site.one.lifecycle.suspend(ADA, TENANT) == held, "asked again"
    await site.one.shreds.order(ADA, TENANT, 7)
    with pytest.raises(Shredding):
        await site.one.lifecycle.resume(ADA, TENANT)
    assert (await site.one.shreds.undo(ADA, TENANT)).state is TenantState.SUSPENDED
    assert (await site.one.lifecycle.resume(ADA, TENANT)).state is TenantState.ACTIVE
    assert await site.one.key()


@pytest.mark.parametrize("days", [0, 6, 3651])
async def test_one_administrator_cannot_order_less_than_the_least(site: Site, days: int) -> None:
    with pytest.raises(Invalid, match="second administrator"):
        await site.one.shreds.order(ADA, TENANT, days)
    assert await site.one.key()


async def test_an_order_is_repeated_and_not_replaced(site: Site) -> None:
    first = await site.one.shreds.order(ADA, TENANT, 9)
    site.time += DAY
    assert await site.one.shreds.order(ADA, TENANT, 9) == first
    with pytest.raises(WrongState, match="undo that to order it anew"):
        await site.one.shreds.order(BOB, TENANT, 7)


async def test_before_its_time_nothing_carries_it_out(site: Site) -> None:
    with pytest.raises(WrongState, match="nobody ordered"):
        await site.one.shreds.execute(WORKER, TENANT)
    await site.one.shreds.order(ADA, TENANT, 7)
    site.time += 7 * DAY - 1
    for call in (ADA, BOB, WORKER):
        with pytest.raises(WrongState, match="second administrator's approval"):
            await site.one.shreds.execute(call, TENANT)
    assert site.one.ledger.tenants() == []
    site.time += 1
    await site.one.shreds.execute(WORKER, TENANT)
    with pytest.raises(Shredded):
        await site.one.key()


async def test_what_nobody_carried_out_yet_can_be_undone_whatever_the_clock_says(
    site: Site,
) -> None:
    key = await site.one.key()
    await site.one.shreds.order(ADA, TENANT, 7)
    site.time += 3650 * DAY  # a clock that jumped, or a hold that kept the worker from it
    record = await site.one.shreds.undo(ADA, TENANT)
    assert record.state is TenantState.ACTIVE
    with pytest.raises(WrongState, match="nobody ordered"):
        await site.one.shreds.execute(WORKER, TENANT)
    assert await site.one.opens(key)


@pytest.mark.parametrize(
    "names", [("email:ada",), ("dns:desk-1",), ("email:ada2", "dns:desk-1"), ADA.caller.names]
)
async def test_who_ordered_cannot_approve_under_any_name(
    site: Site, names: tuple[str, ...]
) -> None:
    await site.one.shreds.order(ADA, TENANT)
    with pytest.raises(Denied, match="second administrator"):
        await site.one.shreds.approve(Call(Caller(names), "r-9", "me again"), TENANT)
    with pytest.raises(WrongState):
        await site.one.shreds.execute(ADA, TENANT)


async def test_approved_it_is_carried_out_at_once_and_proven(site: Site) -> None:
    key = await site.one.key()
    with pytest.raises(WrongState, match="nobody ordered"):
        await site.one.shreds.approve(BOB, TENANT)
    await site.one.shreds.order(ADA, TENANT)
    approved = await site.one.shreds.approve(BOB, TENANT)
    assert approved.order is not None
    assert approved.order.approved == "email:bob"
    with pytest.raises(WrongState, match="not in this instance's"):
        await site.one.shreds.receipt(ADA, TENANT)
    keks = [kek.id for kek in approved.keks]
    signed = await site.one.shreds.execute(ADA, TENANT)
    report = verify(json.dumps(signed).encode(), site.one.ledger.public)
    assert report["keks"] == keks
    assert (report["ordered_by"], report["approved_by"]) == ("email:ada", "email:bob")
    assert report["ledger"]["index"] == 1
    assert site.store.wrapped(TENANT) == []
    assert site.root.destroyed == [OWN]
    for refused in (site.one.key(), site.one.opens(key), site.one.shreds.undo(ADA, TENANT)):
        with pytest.raises(Shredded):
            await refused
    with pytest.raises(Shredded):
        await site.one.service.create_tenant(ADA, TENANT, Tier.BUSINESS)
    assert await site.one.shreds.execute(WORKER, TENANT) == signed
    assert await site.one.shreds.receipt(WORKER, TENANT) == signed
    shown = await site.one.service.tenant_status(ADA, TENANT)
    assert shown.state is TenantState.SHREDDED
    used = [r for r in site.one.sink.records if r.operation == "execute-shred"]
    assert {r.key for r in used if r.outcome == "ok"} == set(keks), "every KEK is on record"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
async def test_killed_at_any_step_a_repetition_finishes_it(
    site: Site, at: int, *, after: bool
) -> None:
    await site.one.shreds.order(ADA, TENANT)
    await site.one.shreds.approve(BOB, TENANT)
    site.fuse.steps, site.fuse.at, site.fuse.after = [], at, after
    causes: list[BaseException | None] = []
    try:
        await site.one.shreds.execute(ADA, TENANT)
    except KeyServiceError as error:
        causes.append(error.__cause__)
    steps = ["write", "ledger", "write", "forget", "destroy", "write"]
    assert site.fuse.steps == steps[:at]
    assert [type(cause) for cause in causes] == ([Died] if at <= len(steps) else [])
    site.fuse.at = 0
    await site.one.ledger.close()
    again = site.one = site.instance("one")
    if at > 1 or after:
        with pytest.raises((WrongState, Shredded)):
            await again.shreds.undo(ADA, TENANT)
    signed = await again.shreds.execute(WORKER, TENANT)
    assert await again.shreds.receipt(ADA, TENANT) == signed
    assert len(again.ledger.page("", 9)) == 1
    entry = again.ledger.of(TENANT)
    assert entry is not None
    assert signed["report"]["entry"] == entry.text
    assert site.store.wrapped(TENANT) == []
    assert OWN in site.root.destroyed
    record = await site.record()
    assert record.state is TenantState.SHREDDED
    assert record.revision == (await site.store.read(TENANT)).version


async def test_another_instance_learns_from_the_record_and_from_the_entry(site: Site) -> None:
    other = site.instance("other", site.one.ledger.public)
    key = await site.one.key()
    assert await other.opens(key)
    await site.one.shreds.order(ADA, TENANT)
    await site.one.shreds.approve(BOB, TENANT)
    backup = site.store.snapshot()
    await site.one.shreds.execute(ADA, TENANT)
    site.monotonic.now += 61
    with pytest.raises(Shredded):
        await other.opens(key)
    _, page = site.one.shreds, await site.one.shreds.entries(WORKER, "")
    assert page[0] == site.one.ledger.public
    site.store.restore(backup)
    site.root.generations.clear()
    taken = await other.shreds.take(WORKER, [entry.text for entry in page[1]])
    assert [entry.destruction.tenant for entry in taken] == [TENANT]
    assert other.woken == [TENANT], "its destruction is carried out again"
    with pytest.raises(Shredded):
        await other.key()
    await other.ledger.close()


async def test_a_ledger_that_was_lost_before_it_was_copied_is_made_again(site: Site) -> None:
    await site.one.shreds.order(ADA, TENANT)
    await site.one.shreds.approve(BOB, TENANT)
    first = await site.one.shreds.execute(ADA, TENANT)
    await site.one.ledger.close()
    (site.folder / "one" / "shred.ledger").unlink()
    again = site.one = site.instance("one")
    second = await again.shreds.execute(WORKER, TENANT)
    ours = {"ledger", "entry"}
    assert {name: value for name, value in first["report"].items() if name not in ours} == {
        name: value for name, value in second["report"].items() if name not in ours
    }
    assert again.ledger.of(TENANT) is not None


async def test_an_order_needs_no_root_and_an_undo_does(site: Site) -> None:
    site.root.down = True
    await site.one.shreds.order(ADA, TENANT)
    with pytest.raises(Unavailable):
        await site.one.shreds.undo(ADA, TENANT)
    site.root.down = False
    assert (await site.one.shreds.undo(ADA, TENANT)).state is TenantState.ACTIVE
    assert await site.one.key()


async def _write(site: Site, record: TenantRecord) -> None:
    """Write a record as somebody would who has the key store and no key service."""
    held = await site.store.read(TENANT)
    await site.store.write(replace(record, revision=held.version + 1), held.version)
    site.one.keyring.drop(TENANT)


@pytest.mark.parametrize("approved", ["", "email:bob"])
@pytest.mark.parametrize("state", [TenantState.SHREDDING, TenantState.SHREDDED])
async def test_an_order_that_was_written_into_the_store_is_not_carried_out(
    site: Site, approved: str, state: TenantState
) -> None:
    record = await site.record()
    order = ShredOrder(1, 2, "email:ada", "forged", approved=approved, began=3)
    await _write(site, replace(record, state=state, order=order))
    with pytest.raises(WrongState, match="no key service that is trusted"):
        await site.one.shreds.execute(WORKER, TENANT)
    assert site.one.ledger.tenants() == []
    assert site.store.wrapped(TENANT) != []
    if state is TenantState.SHREDDING:
        undone = await site.one.shreds.undo(BOB, TENANT)
        assert undone.state is TenantState.SUSPENDED, "whatever time it named"
        await site.one.lifecycle.resume(BOB, TENANT)
        assert await site.one.key()


async def test_a_true_order_is_neither_hastened_nor_approved_by_writing_it(site: Site) -> None:
    record = await site.one.shreds.order(ADA, TENANT, 7)
    order = record.order
    assert order is not None
    for forged in (
        replace(order, due=order.ordered),
        replace(order, approved="email:bob"),
        replace(order, names=(), by="email:bob"),
        replace(order, began=order.due + 1),
    ):
        await _write(site, replace(await site.record(), order=forged))
        with pytest.raises(WrongState):
            await site.one.shreds.execute(WORKER, TENANT)
    await _write(site, replace(await site.record(), order=replace(order, reason="another")))
    with pytest.raises(WrongState, match="no key service that is trusted"):
        await site.one.shreds.approve(BOB, TENANT)
    undone = await site.one.shreds.undo(BOB, TENANT)
    assert undone.state is TenantState.SUSPENDED
    assert site.one.ledger.tenants() == []


async def test_undoing_an_order_that_nobody_gave_ends_no_suspension(site: Site) -> None:
    await site.one.lifecycle.suspend(ADA, TENANT)
    order = ShredOrder(1, 2 * site.time, "email:ada", "forged")
    await _write(site, replace(await site.record(), state=TenantState.SHREDDING, order=order))
    undone = await site.one.shreds.undo(BOB, TENANT)
    assert undone.state is TenantState.SUSPENDED
