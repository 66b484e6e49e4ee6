"""What every restore shares: each version is settled or told as failed, and a killed run goes on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreFull, first
from gateway.model import Version, new_id, now
from gateway.recovery.journal import Journal
from gateway.recovery.restore import SETTLED, Outcome, Preview, Restore, Result, Scope, anyone

ABOUT = {"mode": "test"}


def version(tenant: str = "a" * 32) -> Version:
    return Version(new_id(), new_id(), tenant, new_id(), now(), 10, 10, b"", "k1")


class FakeWork:
    """Brings back what it is told to; remembers what it did and what it was told to record."""

    def __init__(self, versions: Sequence[Version], bad: Sequence[Version] = ()) -> None:
        self.all = versions
        self.bad = {each.id for each in bad}
        self.there: set[str] = set()
        self.done: list[str] = []
        self.recorded: list[str] = []
        self.stop: Callable[[], Exception | None] = lambda: None
        self.under_way = self.most = 0

    async def versions(self) -> AsyncGenerator[Version]:
        for each in self.all:
            yield each

    def size(self, version: Version) -> int:
        return version.size

    async def present(self, version: Version) -> bool:
        return version.id in self.there

    async def do(self, version: Version) -> Result:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if error := self.stop():
            raise error
        if version.id in self.bad:
            return Result(version, Outcome.FAILED, version.size, reason="no source")
        outcome = Outcome.SKIPPED if version.id in self.there else Outcome.RESTORED
        self.there.add(version.id)
        self.done.append(version.id)
        return Result(version, outcome, version.size, source="east")

    async def record(self, results: Sequence[Result]) -> None:
        self.recorded += [result.version.id for result in results]


async def go(work: FakeWork, path: Path, parallel: int = 3) -> tuple[Restore, Journal]:
    journal = Journal.open(path, ABOUT, done=SETTLED)
    restore = Restore(work, journal, refusal=anyone, parallel=parallel)
    try:
        await restore.run()
    finally:
        journal.close()
    return restore, journal


def settled_in(path: Path) -> dict[bytes, str]:
    journal = Journal.open(path, ABOUT, done=SETTLED)
    journal.close()
    return journal.tally.settled


async def test_each_version_is_brought_back_and_written_down(tmp_path: Path) -> None:
    versions = [version() for _ in range(20)]
    work = FakeWork(versions, bad=versions[:2])
    work.there = {versions[5].id}
    restore, journal = await go(work, tmp_path / "a.journal")
    assert +restore.tally.counts == {"restored": 17, "skipped": 1, "failed": 2}
    assert restore.tally.sizes["restored"] == 170
    assert restore.troubles.failed == {each.id: "no source" for each in versions[:2]}
    assert sorted(entry.version for entry in journal.entries()) == sorted(v.id for v in versions)
    assert sorted(work.recorded) == sorted(v.id for v in versions)
    assert work.most <= 3


async def test_what_is_recorded_precedes_what_the_journal_says(tmp_path: Path) -> None:
    work = FakeWork([version()])

    async def refuse(_: Sequence[Result]) -> None:
        raise StoreFull

    work.record = refuse  # type: ignore[assignment,method-assign]
    with pytest.raises((StoreFull, ExceptionGroup)):
        await go(work, tmp_path / "a.journal")
    assert not settled_in(tmp_path / "a.journal")


async def test_nothing_is_left_out_of_the_journal_by_a_slow_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.recovery.restore.FLUSH", 0.001)
    versions = [version() for _ in range(40)]
    work = FakeWork(versions)
    record = work.record

    async def slowly(results: Sequence[Result]) -> None:
        await asyncio.sleep(0.005)
        await record(results)

    work.record = slowly  # type: ignore[method-assign]
    await go(work, tmp_path / "a.journal")
    assert len(settled_in(tmp_path / "a.journal")) == 40
    assert sorted(work.recorded) == sorted(v.id for v in versions)


async def test_what_ends_the_run_ends_it_and_the_next_one_goes_on(tmp_path: Path) -> None:
    versions = [version() for _ in range(30)]
    work = FakeWork(versions)
    work.stop = lambda: StoreFull("full") if len(work.done) >= 10 else None
    with pytest.raises(ExceptionGroup) as caught:
        await go(work, tmp_path / "a.journal")
    assert isinstance(first(caught.value), StoreFull)
    assert len(work.recorded) == len(work.done) >= 10
    work.stop = lambda: None
    restore, _ = await go(work, tmp_path / "a.journal")
    assert +restore.tally.counts == {"restored": 30}
    assert len(work.done) == 30


async def test_what_a_journal_calls_done_is_looked_at(tmp_path: Path) -> None:
    versions = [version() for _ in range(5)]
    work = FakeWork(versions)
    await go(work, tmp_path / "a.journal")
    work.there.remove(versions[1].id)
    work.bad = {versions[1].id}
    restore, _ = await go(work, tmp_path / "a.journal")
    assert +restore.tally.counts == {"restored": 4, "failed": 1}
    assert len(work.done) == 5


async def test_a_refused_tenant_is_left_out_and_asked_again(tmp_path: Path) -> None:
    versions = [version("a" * 32), version("b" * 32)]
    work = FakeWork(versions)
    refused = {"b" * 32: "shredded"}

    async def refusal(tenant: str) -> str:
        return refused.get(tenant, "")

    for _ in range(2):
        journal = Journal.open(tmp_path / "a.journal", ABOUT, done=SETTLED)
        restore = Restore(work, journal, refusal=refusal)
        await restore.run()
        journal.close()
        assert +restore.tally.counts == {"restored": 1, "refused": 1}
        assert restore.troubles.refused == refused
    assert work.done == [versions[0].id]


async def test_a_cancelled_run_writes_down_what_it_did(tmp_path: Path) -> None:
    versions = [version() for _ in range(50)]
    work = FakeWork(versions)
    enough = asyncio.Event()

    def count() -> None:
        if len(work.done) >= 20:
            enough.set()

    work.stop = count
    task = asyncio.create_task(go(work, tmp_path / "a.journal", parallel=1))
    await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(settled_in(tmp_path / "a.journal")) == len(work.done) < 50


async def test_a_preview_does_nothing() -> None:
    versions = [version() for _ in range(4)]
    work = FakeWork(versions)
    work.there = {versions[0].id}
    restore = Restore(Preview(work), refusal=anyone)
    await restore.run()
    assert +restore.tally.counts == {"restored": 3, "skipped": 1}
    assert not work.done
    assert not work.recorded


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 12),
    bad=st.sets(st.integers(0, 11)),
    gone=st.sets(st.integers(0, 11)),
    stops=st.lists(st.integers(0, 12), max_size=4),
)
def test_stopped_anywhere_any_number_of_times_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    bad: set[int],
    gone: set[int],
    stops: list[int],
) -> None:
    path = tmp_path_factory.mktemp("restore") / "a.journal"
    versions = [version() for _ in range(count)]
    work = FakeWork(versions, bad=[v for number, v in enumerate(versions) if number in bad])

    async def stopped(at: int) -> None:
        left = at

        def stop() -> Exception | None:
            nonlocal left
            left -= 1
            return StoreFull() if left < 0 else None

        work.stop = stop
        try:
            await go(work, path)
        except ExceptionGroup:
            work.there -= {v.id for number, v in enumerate(versions) if number in gone}

    for at in stops:
        asyncio.run(stopped(at))
    work.stop = lambda: None
    restore, _ = asyncio.run(go(work, path))
    good = {v.id for v in versions} - work.bad
    assert work.there == good
    counts = restore.tally.counts
    assert counts["restored"] + counts["skipped"] == len(good)
    assert restore.troubles.failed.keys() == {v.id for v in versions if v.id in work.bad}


def test_a_scope_tells_what_it_takes_and_not_its_name() -> None:
    early = replace(version(), created=datetime(2026, 1, 1, tzinfo=UTC))
    assert Scope().takes(early)
    assert not Scope(since=datetime(2026, 1, 2, tzinfo=UTC)).takes(early)
    assert Scope(since=early.created).takes(early)
    assert not Scope(version=new_id()).takes(early)
    scope = Scope("a" * 32, "salaries.xlsx")
    assert "salaries" not in str(scope.about()) + repr(scope)
    assert scope.about() != Scope("a" * 32, "other").about()
