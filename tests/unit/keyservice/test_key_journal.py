"""The key journal: what is changed is on it first, what is used is summed up, and a chain shows tampering."""

import asyncio
import dataclasses
import datetime as dt
import json
from collections import Counter
from typing import Any

import pytest

from keyservice.audit import Auditor
from keyservice.desk import Call, Desk, Outcome
from keyservice.errors import Conflict, Invalid, Unavailable, UnknownTenant
from keyservice.journal import NOBODY, Journal
from keyservice.journal_entry import GENESIS, REMOVED, Chain, Fault, from_text, to_text
from keyservice.journalled import JournalledRoot, JournalledStore, changes
from keyservice.keyring import Keyring
from keyservice.metrics import Metrics
from keyservice.policy import Caller, Gate, Operation, allow_all
from keyservice.records import (
    OWN,
    SHARED,
    Allowance,
    Custody,
    KekState,
    KekVersion,
    RootRef,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.service import KeyService
from keyservice.wire import DataKey, WrappedKey
from tests.unit.keyservice.fakes import (
    FakeJournal,
    FakeRoot,
    FakeSink,
    FakeStore,
    tenant_id,
)

A, B = tenant_id("a"), tenant_id("b")
CALL = Call(Caller(("dns:g",)), "request-1", "because")


class Bench:
    """A key service on fakes, with a journal, and a clock that ticks a second a look."""

    def __init__(self, lines: FakeJournal | None = None) -> None:
        self.lines = lines or FakeJournal()
        self.seconds = 0
        self.journal = self.instance("here")
        self.inner, self.kept, self.sink = FakeRoot(), FakeStore(), FakeSink()
        self.root = JournalledRoot(self.inner, self.journal)
        self.store = JournalledStore(self.kept, self.journal)
        self.desk = Desk(
            Gate(allow_all("dns:g")), Auditor(self.sink, timeout=0.2), Metrics(), self.journal
        )
        self.service = KeyService(
            root=self.root,
            store=self.store,
            keyring=Keyring(self.root, self.store),
            desk=self.desk,
            cache_ttl={Tier.STANDARD: 300, Tier.BUSINESS: 60},
        )

    def instance(self, name: str) -> Journal:
        return Journal(self.lines, instance=name, clock=self.clock)

    def clock(self) -> dt.datetime:
        self.seconds += 1
        return dt.datetime(2030, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)

    async def change(self, record: TenantRecord, **fields: Any) -> None:
        """Write a record with other fields, as a use case would."""

        async def work() -> Outcome[None]:
            held = await self.store.read(record.tenant)
            await self.store.write(dataclasses.replace(held.record, **fields), held.version)
            return Outcome("", None)

        await self.desk.one(CALL, record.tenant, Operation.SETTINGS, work)

    def kinds(self, tenant: str = A) -> list[str]:
        return [entry["kind"] for entry in self.lines.of(tenant)]


def faults(lines: FakeJournal, tenant: str = A, *, head: int = 0) -> list[Fault]:
    chain = Chain(tenant)
    last = head or max(number for place, number in lines.lines if place == tenant)
    found = [
        chain.take(lines.lines.get((tenant, number), REMOVED)) for number in range(1, last + 1)
    ]
    return [fault for fault in found if fault is not None]


async def test_a_creation_is_on_the_journal_before_and_after() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.BUSINESS)
    begun, done = bench.lines.of(A)
    assert (begun["kind"], begun["sequence"], begun["previous"]) == ("begun", 1, GENESIS)
    assert (begun["caller"], begun["request_id"], begun["reason"]) == (
        "dns:g",
        "request-1",
        "because",
    )
    assert (done["kind"], done["of"], done["outcome"]) == ("done", 1, "ok")
    kek = bench.kept.held[A].record.keks[0].id
    assert done["changes"] == [
        {"what": "created", "tier": "business", "root": "own"},
        {"what": "kek-created", "kek": kek},
    ]
    assert faults(bench.lines) == []


async def test_what_changes_nothing_leaves_no_entry() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    before = bench.lines.adds
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    await bench.service.tenant_status(CALL, A)
    with pytest.raises(Invalid):
        await bench.service.create_tenant(CALL, A, Tier.BUSINESS)
    assert bench.lines.adds == before


async def test_without_the_journal_nothing_is_changed_and_keys_are_used_all_the_same() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    bench.lines.down = True
    with pytest.raises(Unavailable):
        await bench.service.create_tenant(CALL, B, Tier.BUSINESS)
    assert B not in bench.kept.held
    assert "create" not in bench.inner.calls[2:]
    with pytest.raises(Unavailable):
        await bench.change(bench.kept.held[A].record, cache_ttl=1.0)
    assert bench.kept.held[A].record.cache_ttl == 300
    (key,) = await bench.service.data_keys(CALL, A, [b"c"])
    assert isinstance(key, DataKey)
    assert not await bench.journal.flush()
    bench.lines.down = False
    assert await bench.journal.flush()
    (use,) = [each for each in bench.lines.of(A)[-1]["uses"] if each["operation"] == "data-keys"]
    assert (use["kek"], use["count"], use["outcome"]) == (key.kek, 1, "ok")


async def test_a_change_whose_end_cannot_be_written_is_told_later() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    record = bench.kept.held[A].record
    write = bench.kept.write

    async def write_and_lose(record: TenantRecord, expected_version: int) -> int:
        version = await write(record, expected_version)
        bench.lines.down = True
        return version

    bench.kept.write = write_and_lose  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="the change was made"):
        await bench.change(record, cache_ttl=1.0)
    assert bench.kept.held[A].record.cache_ttl == 1.0
    bench.lines.down = False
    assert bench.kinds() == ["begun", "done", "begun"]
    assert await bench.journal.flush()
    assert bench.kinds()[:4] == ["begun", "done", "begun", "done"]
    done = bench.lines.of(A)[3]
    assert (done["of"], done["changes"][0]["what"]) == (3, "settings")


async def test_a_refused_change_says_so() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    bench.kept.down = True
    with pytest.raises(Unavailable):
        await bench.service.create_tenant(CALL, B, Tier.STANDARD)
    assert bench.lines.of(B) == []  # it failed on reading
    bench.kept.down, bench.inner.down = False, True
    with pytest.raises(Unavailable):
        await bench.service.create_tenant(CALL, B, Tier.BUSINESS)
    _, done = bench.lines.of(B)
    assert (done["of"], done["outcome"]) == (1, "unavailable")
    assert done["changes"] == [{"what": "root-create", "uncertain": True}]


async def test_what_nobody_waits_for_is_abandoned() -> None:
    bench = Bench()
    bench.inner.hold = asyncio.Event()
    task = asyncio.create_task(bench.service.create_tenant(CALL, A, Tier.BUSINESS))
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.kinds() == ["begun"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.journal.flush()
    assert [e.get("outcome") for e in bench.lines.of(A)][:2] == [None, "abandoned"]


async def test_uses_are_summed_up_by_kek_operation_and_outcome() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    keys = await bench.service.data_keys(CALL, A, [b"1", b"2", b"3"])
    wrapped = [WrappedKey(k.wrapped, b"1") for k in keys if isinstance(k, DataKey)]
    await bench.service.unwrap(CALL, A, wrapped)
    await bench.service.unwrap(CALL, A, wrapped[:1])
    await bench.journal.flush()
    summary = bench.lines.of(A)[-1]
    kek = bench.kept.held[A].record.keks[0].id
    uses = {(e["operation"], e["kek"], e["outcome"]): e["count"] for e in summary["uses"]}
    assert uses == {
        ("create-tenant", kek, "ok"): 1,
        ("data-keys", kek, "ok"): 3,
        ("unwrap", kek, "ok"): 2,
        ("unwrap", kek, "cannot-unwrap"): 2,
    }
    calls = {(e["of"], e["call"], e["outcome"]): e["count"] for e in summary["calls"]}
    assert calls["root", "wrap", "ok"] == 1
    assert calls["root", "unwrap", "ok"] == 1  # a KEK is opened once
    assert calls["store", "write", "ok"] == 1
    assert summary["last"] == {kek: summary["uses"][-1]["last"]}
    before = bench.lines.adds
    assert await bench.journal.flush()
    assert bench.lines.adds == before  # nothing new, no entry


async def test_the_last_use_is_known_with_and_without_what_waits() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    await bench.journal.flush()
    kek = bench.kept.held[A].record.keks[0].id
    written = (await bench.journal.last_used(A))[kek]
    await bench.service.data_keys(CALL, A, [b"1"])
    waiting = (await bench.journal.last_used(A))[kek]
    assert waiting > written
    assert (await bench.instance("there").last_used(A))[kek] == written
    await bench.journal.flush()
    assert (await bench.instance("there").last_used(A))[kek] == waiting
    await bench.service.create_tenant(CALL, B, Tier.STANDARD)
    assert kek not in await bench.journal.last_used(B)


async def test_strangers_do_not_fill_the_journal() -> None:
    bench = Bench()
    for number in range(50):
        with pytest.raises(UnknownTenant):
            await bench.service.unwrap(CALL, tenant_id(f"{number}"), [])
    await bench.desk.refuse(CALL, "", Operation.UNWRAP, Invalid("x"))
    assert await bench.journal.flush()
    assert bench.lines.lines == {}
    with pytest.raises(UnknownTenant):
        await bench.journal.page(A, 0, 10)


async def test_what_waits_is_bounded() -> None:
    journal = Journal(FakeJournal(), instance="here", capacity=10)
    for number in range(100):
        journal.used(tenant_id(f"{number}"), "unwrap", Counter({("k", "ok"): 2}))
    assert journal.lost == 180
    assert await journal.flush()
    journal.used(A, "unwrap", Counter({("k", "ok"): 2}))
    assert journal.lost == 180


async def test_many_instances_append_to_one_chain() -> None:
    bench = Bench()
    journals = [bench.instance(f"i{number}") for number in range(4)]

    async def write(journal: Journal, number: int) -> None:
        await journal.append(journal.draft(A, "uses", {"uses": [], "n": number}))

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(write(journals[number % 4], number))
    assert sorted(entry["n"] for entry in bench.lines.of(A)) == list(range(40))
    assert faults(bench.lines) == []


async def test_an_entry_whose_answer_was_lost_is_written_once() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    bench.lines.lost_answers = 1
    assert not await bench.journal.flush()
    assert await bench.journal.flush()
    assert bench.kinds() == ["begun", "done", "uses"]
    assert faults(bench.lines) == []


@pytest.fixture
async def written() -> FakeJournal:
    """Give a journal of six entries."""
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    for ttl in (1.0, 2.0):
        await bench.change(bench.kept.held[A].record, cache_ttl=ttl)
    return bench.lines


async def test_an_altered_entry_is_seen(written: FakeJournal) -> None:
    entry = json.loads(written.lines[A, 3])
    written.lines[A, 3] = to_text(entry | {"caller": "dns:somebody-else"})
    assert [fault.sequence for fault in faults(written)] == [4]


async def test_a_removed_entry_is_seen(written: FakeJournal) -> None:
    del written.lines[A, 3]
    assert faults(written)[0] == Fault(3, "removed")


async def test_entries_that_changed_places_are_seen(written: FakeJournal) -> None:
    lines = written.lines
    lines[A, 2], lines[A, 3] = lines[A, 3], lines[A, 2]
    assert {fault.sequence for fault in faults(written)} >= {2, 3}


async def test_another_tenants_entry_and_noise_are_seen(written: FakeJournal) -> None:
    entry = json.loads(written.lines[A, 2])
    written.lines[A, 2] = to_text(entry | {"tenant": B})
    written.lines[A, 4] = "noise"
    assert {fault.sequence for fault in faults(written)} == {2, 3, 4, 5}


async def test_writing_goes_on_after_tampering(written: FakeJournal) -> None:
    written.lines[A, 6] = "noise"
    journal = Journal(written, instance="later")
    await journal.append(journal.draft(A, "uses", {}))
    assert [fault.sequence for fault in faults(written)] == [6]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"format": 1}', '{"format": 1, "sequence": true}']
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"journal entry|Expecting"):
        from_text(text)


async def test_the_shared_roots_changes_are_nobodys() -> None:
    bench = Bench()

    async def rotate() -> Outcome[int]:
        return Outcome("", await bench.root.rotate("", SHARED))

    await bench.desk.one(CALL, "", Operation.ROTATE_ROOT, rotate)
    begun, done = bench.lines.of(NOBODY)
    assert begun["operation"] == "rotate-root"
    assert done["changes"] == [{"what": "root-rotated", "root": "shared", "version": 2}]


async def test_what_no_request_asked_for_is_our_own() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.BUSINESS)
    await bench.root.retire(A, OWN, 1)
    await bench.root.destroy(A, OWN)
    entries = bench.lines.of(A)[2:]
    assert [entry["caller"] for entry in entries] == [""] * 4
    assert [c["what"] for e in entries for c in e.get("changes", [])] == [
        "root-retired",
        "root-destroyed",
    ]


async def test_a_write_over_another_version_conflicts_and_begins_nothing() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    held = bench.kept.held[A]
    for version in (5, held.version + 1):
        with pytest.raises(Conflict):
            await bench.store.write(held.record, version)
    with pytest.raises(Conflict):
        await bench.store.write(dataclasses.replace(held.record, tenant=B), 3)
    assert bench.kinds() == ["begun", "done"]


def kek(name: str, state: KekState = KekState.CURRENT, wrapped: str = "w") -> KekVersion:
    return KekVersion(name, wrapped, 1, state)


RECORD = TenantRecord(A, Tier.STANDARD, TenantState.ACTIVE, 60.0, (kek("1"),), SHARED)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"state": TenantState.SUSPENDED}, [{"what": "suspended"}]),
        ({"state": TenantState.SHREDDED}, [{"what": "shredded"}]),
        ({"keks": (kek("1", wrapped="x"),)}, [{"what": "kek-rewrapped", "kek": "1"}]),
        (
            {"keks": (kek("1", KekState.RETIRED), kek("2"))},
            [{"what": "kek-replaced", "kek": "1"}, {"what": "kek-created", "kek": "2"}],
        ),
        ({"keks": (kek("1", KekState.DESTROYED),)}, [{"what": "kek-destroyed", "kek": "1"}]),
        ({"keks": ()}, [{"what": "kek-forgotten", "kek": "1"}]),
        (
            {"allowance": Allowance(1.0, 2.0)},
            [
                {
                    "what": "settings",
                    "from": {"cache_ttl": 60.0, "rate": None},
                    "to": {"cache_ttl": 60.0, "rate": {"per_second": 1.0, "burst": 2.0}},
                }
            ],
        ),
        (
            {"tier": Tier.BUSINESS, "root": RootRef(Custody.OWN, "0123abcd")},
            [
                {
                    "what": "moved",
                    "from": {"tier": "standard", "root": "shared"},
                    "to": {"tier": "business", "root": "own/0123abcd"},
                }
            ],
        ),
        ({}, []),
    ],
)
def test_a_change_is_told_by_what_differs(
    fields: dict[str, Any], told: list[dict[str, Any]]
) -> None:
    after = dataclasses.replace(RECORD, **fields)
    assert changes(RECORD, after) == told
    assert "wrapped" not in json.dumps(changes(None, after))


def test_the_way_back_is_told() -> None:
    for state, told in (
        (TenantState.SUSPENDED, "resumed"),
        (TenantState.SHREDDING, "shred-undone"),
    ):
        before = dataclasses.replace(RECORD, state=state)
        assert changes(before, RECORD) == [{"what": told}]
