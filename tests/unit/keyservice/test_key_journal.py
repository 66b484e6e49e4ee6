"""The key journal: what is changed is on it first, what is used is summed up."""

import asyncio
import dataclasses
from collections import Counter

import pytest

from keyservice.access.policy import Operation
from keyservice.desk.desk import Outcome
from keyservice.errors import Conflict, Invalid, Unavailable, UnknownTenant
from keyservice.journal.entry import GENESIS
from keyservice.journal.journal import NOBODY, Journal
from keyservice.records import (
    OWN,
    SHARED,
    TenantRecord,
    Tier,
)
from keyservice.wire import DataKey, WrappedKey
from tests.unit.keyservice.fakes import (
    FakeJournal,
    tenant_id,
)
from tests.unit.keyservice.journal_bench import CALL, A, B, Bench, faults


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
    (key,) = (await bench.service.data_keys(CALL, A, [b"c"])).items
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
    assert done["changes"] == [{"what": "root-create", "root": "own", "uncertain": True}]


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
    keys = (await bench.service.data_keys(CALL, A, [b"1", b"2", b"3"])).items
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
    assert calls["shared", "wrap", "ok"] == 1
    assert calls["shared", "unwrap", "ok"] == 1  # a KEK is opened once
    assert calls["store", "write", "ok"] == 1
    assert summary["last"] == {kek: summary["uses"][-1]["last"]}
    before = bench.lines.adds
    assert await bench.journal.flush()
    assert bench.lines.adds == before  # nothing new, no entry


async def test_what_nobody_foresaw_stops_no_use() -> None:
    bench = Bench()
    await bench.service.create_tenant(CALL, A, Tier.STANDARD)

    async def broken(tenant: str, sequence: int, text: str) -> None:
        raise RuntimeError(f"{tenant} {sequence} {text}")

    add, bench.lines.add = bench.lines.add, broken  # type: ignore[method-assign]
    assert not await bench.journal.flush()
    assert isinstance((await bench.service.data_keys(CALL, A, [b"c"])).items[0], DataKey)
    bench.lines.add = add  # type: ignore[method-assign]
    assert await bench.journal.flush()
    assert await bench.journal.flush()
    assert sum(use["count"] for e in bench.lines.of(A)[2:] for use in e["uses"]) == 2


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
