"""Work by a row: kept while it lasts, cut off when it is lost, recorded as it ends."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.duties.duty import Duty, Ledger, perform
from gateway.duties.ticker import Ticker
from gateway.duties.worker import Worker
from gateway.errors import CatalogUnavailable, DutyFailed, RunLost, StoreUnavailable
from gateway.model import new_id
from gateway.ports import Run, RunState
from tests.doubles.runs import MemoryRuns

LEASE = timedelta(seconds=0.4)
NOW = timedelta()
DAY = timedelta(days=1)


class Runs(MemoryRuns):
    """Rows behind a catalog that can be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.writes = 0
        self.thrice = asyncio.Event()
        self.ended = asyncio.Semaphore(0)

    async def save(self, run: Run) -> bool:
        self.writes += 1
        if self.writes > 2:
            self.thrice.set()
        if self.down:
            raise CatalogUnavailable("down")
        return await super().save(run)

    async def end(self, run: Run, state: RunState, outcome: Mapping[str, object]) -> bool:
        held = await super().end(run, state, outcome)
        self.ended.release()
        return held


async def _nothing(ledger: Ledger) -> Mapping[str, object]:
    del ledger
    return {"done": True}


async def _endless(ledger: Ledger) -> Mapping[str, object]:
    await ledger.save("here", {"n": 3})
    await asyncio.Event().wait()
    return {}


def _duty(work: object = _nothing, *, kind: str = "scrub", subject: str = "a") -> Duty:
    return Duty(kind, subject, DAY, work)  # type: ignore[arg-type]  # one of those here


async def _begun(runs: MemoryRuns, duty: Duty, holder: str = "me") -> Run:
    run = await runs.claim(duty.kind, duty.subject, holder=holder, every=NOW, lease=LEASE)
    assert run is not None
    return run


async def test_a_run_that_ends_well() -> None:
    runs, duty = Runs(), _duty()
    ended = await perform(duty, await _begun(runs, duty), runs, lease=LEASE)
    assert ended is not None
    assert (ended.state, ended.outcome) == (RunState.DONE, {"done": True})
    assert runs.rows[0].state is RunState.DONE


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnavailable("s3://secret"), {"error": "StoreUnavailable"}),
        (ValueError("secret"), {"error": "ValueError"}),
        (DutyFailed("secret", {"failed": 2}), {"failed": 2, "error": "DutyFailed"}),
    ],
)
async def test_a_run_that_fails_says_why_and_no_more(
    error: Exception, outcome: dict[str, object]
) -> None:
    async def fail(ledger: Ledger) -> Mapping[str, object]:
        await ledger.save("half way", {})
        raise error

    runs, duty = Runs(), _duty(fail)
    ended = await perform(duty, await _begun(runs, duty), runs, lease=LEASE)
    assert ended is not None
    assert (ended.state, ended.outcome, ended.cursor) == (RunState.FAILED, outcome, "half way")


async def test_long_work_keeps_its_row() -> None:
    runs = Runs()

    async def slow(_: Ledger) -> Mapping[str, object]:
        await runs.thrice.wait()  # it saves nothing by itself
        return {}

    duty = _duty(slow)
    async with asyncio.timeout(60):
        await perform(duty, await _begun(runs, duty), runs, lease=timedelta(seconds=2))
    assert runs.rows[0].state is RunState.DONE


async def test_work_whose_row_was_taken_is_cut_off() -> None:
    runs, duty = Runs(), _duty(_endless)
    run = await _begun(runs, duty)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(perform(duty, run, runs, lease=LEASE))
        await asyncio.sleep(0)
        runs.rows[0] = replace(runs.rows[0], holder="other")
    assert task.result() is None
    assert (runs.rows[0].holder, runs.rows[0].state) == ("other", RunState.RUNNING)


async def test_save_tells_of_a_lost_row() -> None:
    runs, duty = Runs(), _duty()
    run = await _begun(runs, duty)
    time = [0.0]
    ledger = Ledger(runs, run, lease=LEASE, clock=lambda: time[0])
    await ledger.save("a", {"n": 1})
    assert runs.writes == 0  # not every item is worth a write
    time[0] = 1.0
    await ledger.save("b", {"n": 2})
    assert (runs.rows[0].cursor, runs.rows[0].progress) == ("b", {"n": 2})
    runs.rows.clear()
    time[0] = 2.0
    with pytest.raises(RunLost):
        await ledger.save("c", {"n": 3})


async def test_telling_how_far_it_is_keeps_where_to_go_on() -> None:
    runs = Runs()

    async def work(ledger: Ledger) -> Mapping[str, object]:
        await ledger.note("here", {"n": 1})
        await ledger.tell({"n": 2})
        return {}

    duty = _duty(work)
    ended = await perform(duty, await _begun(runs, duty), runs, lease=LEASE)
    assert ended is not None
    assert (ended.cursor, ended.progress) == ("here", {"n": 2})


async def test_an_outage_of_the_catalog_is_waited_for_as_long_as_the_lease_lasts() -> None:
    runs, duty = Runs(), _duty()
    run = await _begun(runs, duty)
    time = [0.0]
    ledger = Ledger(runs, run, lease=timedelta(seconds=60), clock=lambda: time[0])
    runs.down = True
    time[0] = 59.0
    await ledger.save("a", {})
    time[0] = 60.0
    with pytest.raises(RunLost):
        await ledger.save("b", {})


async def test_what_is_cut_off_is_given_back_where_it_was() -> None:
    runs, duty = Runs(), _duty(_endless)
    run = await _begun(runs, duty)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(perform(duty, run, runs, lease=DAY))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
    taken = await _begun(runs, duty, "other")
    assert (taken.id, taken.cursor, taken.progress) == (run.id, "here", {"n": 3})


async def test_a_worker_does_every_duty_once() -> None:
    runs, done = Runs(), list[str]()

    def duty(subject: str) -> Duty:
        async def work(ledger: Ledger) -> Mapping[str, object]:
            done.append(ledger.run.subject)
            if subject == "b":
                raise StoreUnavailable
            return {}

        return _duty(work, subject=subject)

    duties = [duty("a"), duty("b"), duty("c"), _duty(kind="drill")]
    await runs.claim("scrub", "c", holder="other", every=NOW, lease=DAY)
    worker = Worker(runs, duties, holder="me", at_once=1)
    turns = await worker.once("scrub")
    assert [turn.duty.subject for turn in turns] == ["a", "b", "c"]
    states = [turn.run and turn.run.state for turn in turns]
    assert states == [RunState.DONE, RunState.FAILED, None]
    assert done == ["a", "b"]
    assert len(await worker.once()) == 4  # due or not


async def test_a_worker_goes_on_beside_what_fails_and_stops_when_told() -> None:
    runs, begun = Runs(), asyncio.Event()

    async def fail(_: Ledger) -> Mapping[str, object]:
        raise StoreUnavailable

    async def long(ledger: Ledger) -> Mapping[str, object]:
        begun.set()
        return await _endless(ledger)

    duties = [_duty(fail, subject="a"), _duty(long, subject="b"), _duty(subject="c")]
    worker = Worker(runs, duties, holder="me", lease=timedelta(seconds=2))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        await begun.wait()
        for _ in range(2):
            await runs.ended.acquire()
        task.cancel()
    (left,) = await runs.latest(RunState.RUNNING)
    assert left.subject == "b"
    assert (await _begun(runs, duties[1], "other")).id == left.id  # it was given back


async def test_no_more_duties_at_once_than_may() -> None:
    running, most = 0, 0

    async def work(_: Ledger) -> Mapping[str, object]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return {}

    duties = [_duty(work, subject=f"{n}") for n in range(9)]
    turns = await Worker(Runs(), duties, holder="me", at_once=2).once()
    assert all(turn.run is not None for turn in turns)
    assert most == 2


async def test_time_is_counted_from_try_to_try() -> None:
    class Counted:
        def __init__(self) -> None:
            self.ticks: list[float] = []
            self.down = False

        async def tick(self, elapsed: timedelta, ticker: str) -> None:
            assert len(ticker) == len(new_id())
            if self.down:
                raise CatalogUnavailable("down")
            self.ticks.append(elapsed.total_seconds())

    bin_, time = Counted(), [100.0]
    ticker = Ticker(bin_, clock=lambda: time[0])  # type: ignore[arg-type]  # it needs no more
    await ticker.tick()
    for later, down in ((160.0, False), (220.0, True), (290.0, False)):
        time[0], bin_.down = later, down
        await ticker.tick()
    assert bin_.ticks == [0.0, 60.0, 70.0]  # what could not be told is not told later
