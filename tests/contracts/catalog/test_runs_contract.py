"""Long and periodic work as rows, on both databases."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from gateway.catalog import SqlCatalog
from gateway.ports import Run, RunState
from tests.contracts.catalog.samples import START, FakeClock, at

DAY = timedelta(days=1)
LEASE = timedelta(seconds=60)
DONE, FAILED, RUNNING = RunState.DONE, RunState.FAILED, RunState.RUNNING


async def _claim(
    catalog: SqlCatalog, holder: str = "a", *, subject: str = "backup", every: timedelta = DAY
) -> Run | None:
    return await catalog.runs.claim("scrub", subject, holder=holder, every=every, lease=LEASE)


async def _begun(catalog: SqlCatalog, holder: str = "a", *, subject: str = "backup") -> Run:
    run = await _claim(catalog, holder, subject=subject, every=timedelta())
    assert run is not None
    return run


async def test_a_run_from_begin_to_end(catalog: SqlCatalog, clock: FakeClock) -> None:
    run = await _begun(catalog)
    assert run == Run(run.id, "scrub", "backup", "a", RUNNING, START, START)
    assert await catalog.runs.history() == [run]
    clock.now = at(9)
    run = replace(run, cursor="réf 7", progress={"objects": 7, "bytes": 2**60})
    assert await catalog.runs.save(run)
    assert await catalog.runs.history() == [replace(run, touched=at(9))]
    clock.now = at(12)
    run = replace(run, cursor="end", progress={"objects": 9})
    outcome = {"damaged": 1, "of": ["x"], "seconds": 1.5}
    assert await catalog.runs.end(run, DONE, outcome)
    ended = replace(run, state=DONE, touched=at(12), ended=at(12), outcome=outcome)
    assert await catalog.runs.history() == [ended]
    assert await catalog.runs.end(run, DONE, outcome)  # the first answer may have been lost
    assert not await catalog.runs.end(run, FAILED, {})
    assert not await catalog.runs.save(run)
    assert await catalog.runs.history() == [ended]


async def test_who_is_silent_is_relieved_where_they_were(
    catalog: SqlCatalog, clock: FakeClock
) -> None:
    run = replace(await _begun(catalog), cursor="here", progress={"objects": 3})
    clock.now = at(30)
    assert await catalog.runs.save(run)
    clock.now = at(89)
    assert await _claim(catalog, "b") is None
    clock.now = at(90)
    taken = await _claim(catalog, "b")
    assert taken == replace(run, holder="b", touched=at(90))
    assert not await catalog.runs.save(run)
    assert not await catalog.runs.end(run, DONE, {})
    assert await catalog.runs.save(taken)


async def test_what_was_given_back_is_taken_over_at_once(catalog: SqlCatalog) -> None:
    run = replace(await _begun(catalog), cursor="here", progress={"objects": 3})
    await catalog.runs.release(run)
    taken = await _claim(catalog, "b")
    assert taken == replace(run, holder="b")
    await catalog.runs.release(run)  # it is no longer theirs to give
    assert await _claim(catalog, "c") is None
    assert await catalog.runs.end(taken, DONE, {})
    await catalog.runs.release(taken)
    (ended,) = await catalog.runs.history()
    assert ended.state is DONE


async def test_what_failed_is_tried_again_sooner(catalog: SqlCatalog, clock: FakeClock) -> None:
    async def claim(retry: timedelta) -> Run | None:
        return await catalog.runs.claim(
            "scrub", "", holder="a", every=DAY, lease=LEASE, retry=retry
        )

    hour = DAY / 24
    run = await claim(hour)
    assert run is not None
    assert await catalog.runs.end(run, FAILED, {"error": "X"})
    clock.now = START + hour
    assert await claim(2 * hour) is None
    run = await claim(hour)
    assert run is not None
    assert await catalog.runs.end(run, DONE, {})
    clock.now = START + 2 * hour
    assert await claim(hour) is None


async def test_the_latest_of_each_kind_and_subject(catalog: SqlCatalog, clock: FakeClock) -> None:
    expected = []
    for second, (subject, state) in enumerate(
        [("a", DONE), ("b", FAILED), ("a", DONE), ("b", DONE), ("b", FAILED)]
    ):
        clock.now = at(second)
        run = await _begun(catalog, subject=subject)
        assert await catalog.runs.end(run, state, {})
        expected.append(run.id)
    await _begun(catalog)
    assert [run.id for run in await catalog.runs.latest(DONE)] == [expected[2], expected[3]]
    assert [run.id for run in await catalog.runs.latest(FAILED)] == [expected[4]]
    assert len(await catalog.runs.latest(RUNNING)) == 1


async def test_the_holder_may_claim_again(catalog: SqlCatalog) -> None:
    run = replace(await _begun(catalog), cursor="here")
    assert await catalog.runs.save(run)
    assert await _claim(catalog, "a") == run  # the answer to its first claim may have been lost


@pytest.mark.parametrize("state", [DONE, FAILED])
async def test_the_next_run_is_due_in_its_time(
    catalog: SqlCatalog, clock: FakeClock, state: RunState
) -> None:
    run = await _begun(catalog)
    clock.now = START + DAY / 2
    assert await catalog.runs.end(run, state, {})
    clock.now = START + DAY - timedelta(microseconds=1)
    assert await _claim(catalog) is None
    clock.now = START + DAY
    following = await _claim(catalog)
    assert following is not None
    assert following.id != run.id
    assert (following.cursor, following.progress) == ("", {})


async def test_subjects_and_kinds_are_apart(catalog: SqlCatalog) -> None:
    runs = [await _begun(catalog), await _begun(catalog, subject="other")]
    drill = await catalog.runs.claim("drill", "", holder="a", every=DAY, lease=LEASE)
    assert drill is not None
    assert {run.id for run in await catalog.runs.history("scrub")} == {run.id for run in runs}
    assert await catalog.runs.history("drill") == [drill]
    assert await catalog.runs.history("scrub", "other") == [runs[1]]
    assert await catalog.runs.history(subject="") == [drill]
    assert len(await catalog.runs.history(limit=2)) == 2


async def test_one_of_several_begins(several: list[SqlCatalog], clock: FakeClock) -> None:
    for number in range(6):
        clock.now = START + number * DAY
        claimed = await asyncio.gather(*(_claim(each, f"{n}") for n, each in enumerate(several)))
        (run,) = (run for run in claimed if run is not None)
        if number % 2:
            assert await several[0].runs.end(run, DONE, {})
    # Runs that nobody ended were taken over, by one of them.
    history = await several[0].runs.history()
    assert [run.state for run in history] == [DONE] * 3


async def test_one_of_several_takes_over(several: list[SqlCatalog], clock: FakeClock) -> None:
    run = await _begun(several[0], "dead")
    clock.now = at(61)
    claimed = await asyncio.gather(*(_claim(each, f"{n}") for n, each in enumerate(several)))
    (taken,) = (run for run in claimed if run is not None)
    assert taken.id == run.id


async def test_a_clock_that_went_back(catalog: SqlCatalog, clock: FakeClock) -> None:
    clock.now = START + 7 * DAY
    run = await _begun(catalog)
    clock.now = START + 7 * DAY - LEASE
    assert await _claim(catalog, "b") is None  # a little
    clock.now = START
    taken = await _claim(catalog, "b")
    assert taken == replace(run, holder="b", touched=START)
    assert await catalog.runs.end(taken, DONE, {})
    assert await _claim(catalog) is not None  # it did not begin in a week's time


async def test_a_run_from_the_future_makes_none_due_again_and_again(
    catalog: SqlCatalog, clock: FakeClock
) -> None:
    clock.now = START + 7 * DAY
    assert await catalog.runs.end(await _begun(catalog), DONE, {})
    clock.now = START
    run = await _claim(catalog)
    assert run is not None
    assert await catalog.runs.end(run, DONE, {})
    assert [each.id for each in await catalog.runs.latest(DONE)] == [run.id]
    clock.now = START + DAY / 2
    assert await _claim(catalog) is None
    clock.now = START + DAY
    assert await _claim(catalog) is not None


async def test_a_claim_whose_answer_was_lost_is_claimed_again(catalog: SqlCatalog) -> None:
    random = Random(7)
    for number in range(8):
        call = asyncio.ensure_future(_claim(catalog, subject=f"{number}"))
        await asyncio.sleep(random.uniform(0, 0.004))
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        run = await _begun(catalog, subject=f"{number}")
        end = asyncio.ensure_future(catalog.runs.end(run, DONE, {"n": number}))
        await asyncio.sleep(random.uniform(0, 0.004))
        end.cancel()
        with suppress(asyncio.CancelledError):
            await end
        assert await catalog.runs.end(run, DONE, {"n": number})
        (ended,) = await catalog.runs.history(subject=f"{number}")
        assert ended.outcome == {"n": number}


async def test_prune_keeps_the_last_success(catalog: SqlCatalog, clock: FakeClock) -> None:
    kept = []
    for day, state in enumerate([DONE, DONE, FAILED]):
        clock.now = START + day * DAY
        run = await _begun(catalog)
        assert await catalog.runs.end(run, state, {})
        kept.append(run.id)
    other = await _begun(catalog, subject="other")
    assert await catalog.runs.end(other, DONE, {})
    running = await _begun(catalog, subject="running")
    clock.now = START + 90 * DAY
    recent = await catalog.runs.claim("drill", "", holder="a", every=DAY, lease=LEASE)
    assert recent is not None
    assert await catalog.runs.end(recent, FAILED, {})
    assert await catalog.runs.prune(30 * DAY) == 2
    left = {run.id for run in await catalog.runs.history()}
    assert left == {kept[1], other.id, running.id, recent.id}
    assert await catalog.runs.prune(30 * DAY) == 0
