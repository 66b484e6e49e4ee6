"""A drill that was cut off is gone on with by whoever comes next, and tries nothing twice."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.duties.record import on_record
from gateway.errors import RunLost
from gateway.model import Version, body_key, envelope_key, now
from gateway.ports import Run, RunState
from gateway.recovery import drill as module
from gateway.recovery import drilled as keeping
from gateway.recovery.drill import EVERYTHING
from gateway.recovery.drilled import Course, Drilled
from gateway.recovery.trial import Trial
from tests.unit.gateway.recovery.conftest import Site, content
from tests.unit.gateway.recovery.test_drill import drill_of, fill

VERSIONS = 6


class Row:
    """A run of a drill, lost after so many words of how far it got; 0: never."""

    def __init__(self, run: Run, words: int = 0) -> None:
        self.run = run
        self._words = words

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        self.run = replace(self.run, cursor=cursor, progress=dict(progress))
        self._words -= 1
        if self._words == 0:
            raise RunLost("cut off")


def row(run_id: str = "0" * 32) -> Run:
    return Run(run_id, EVERYTHING, "east", "me", RunState.RUNNING, now(), now())


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each version that is tried; one is, between two words of how far it got."""
    found, run = list[str](), Trial.run

    async def noted(self: Trial, version: Version) -> int | str | None:
        found.append(version.id)
        return await run(self, version)

    monkeypatch.setattr(Trial, "run", noted)
    monkeypatch.setattr(module, "STEP", 1)
    return found


@pytest.mark.parametrize("everything", [False, True])
async def test_it_goes_on_where_it_was_cut_off(
    site: Site,
    tried: list[str],
    everything: bool,  # noqa: FBT001
) -> None:
    await fill(site)
    await site.backups().make()
    drill, left = drill_of(site), row()
    for words in (1, 2, 3):
        cut = Row(left, words)
        with pytest.raises(RunLost):
            await drill.run(site.east, everything=everything, ledger=cut)
        left = cut.run
    assert left.progress["checked"] == 5
    seconds = Course(
        Drilled("east", everything, now()), 0 if everything else 50, Row(left), seed=""
    )
    drilled = await drill.run(site.east, everything=everything, ledger=Row(left))
    assert drilled.good
    assert drilled.checked == VERSIONS
    assert (len(tried), len(set(tried))) == (VERSIONS, VERSIONS), "nothing is tried twice"
    assert tried == sorted(tried)
    assert drilled.copy_rows > 0, "the copy of the catalog was loaded by the first"
    assert drilled.rto > seconds.drilled.rto > 0, "all that it took is told"


async def test_a_sample_is_the_same_for_who_goes_on(site: Site, tried: list[str]) -> None:
    await fill(site)
    drill = drill_of(site)
    await drill.run(site.east, sample=3, ledger=Row(row()))
    whole = tried.copy()
    tried.clear()
    cut = Row(row(), 2)
    with pytest.raises(RunLost):
        await drill.run(site.east, sample=3, ledger=cut)
    assert tried == whole[:1]
    drilled = await drill.run(site.east, sample=3, ledger=Row(cut.run))
    assert tried == whole
    assert drilled.checked == len(whole)


async def test_what_failed_before_is_in_the_report(site: Site, tried: list[str]) -> None:
    victim = (await site.bench.store(content(300_000, 9), "victim")).version
    await site.bench.store(b"sound", "other")
    await site.plant(body_key(victim.tenant, victim.blob), content(300_500, 3))
    drill, left = drill_of(site), row()
    while True:
        cut = Row(left, 2)
        try:
            drilled = await drill.run(site.east, everything=True, ledger=cut)
        except RunLost:
            left = cut.run
        else:
            break
    assert (drilled.checked, drilled.failed) == (1, 1)
    assert [version for version, _ in drilled.failures] == [victim.id]
    assert victim.id not in tried, "its body is not even as long as it should be"


@pytest.mark.usefixtures("tried")
async def test_what_came_since_the_first_began_and_is_not_there_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.recovery.trial.SKEW", timedelta())
    await fill(site)
    cut = Row(row(), 1)
    with pytest.raises(RunLost):
        await drill_of(site).run(site.east, everything=True, ledger=cut)
    lost = (await site.bench.store(b"later", "later")).version
    await site.bench.east.delete(envelope_key(lost.tenant, lost.blob))
    drilled = await drill_of(site).run(site.east, everything=True, ledger=Row(cut.run))
    assert drilled.failures == [(lost.id, "absent")]


async def test_another_drill_or_one_of_yesterday_is_not_gone_on_with(
    site: Site, tried: list[str]
) -> None:
    await fill(site)
    cut = Row(row(), 3)
    with pytest.raises(RunLost):
        await drill_of(site).run(site.east, everything=True, ledger=cut)

    def course(source: str = "east", *, sample: int = 0, later: timedelta = timedelta()) -> Course:
        drilled = Drilled(source, everything=True, started=now())
        return Course(drilled, sample, Row(cut.run), seed="", clock=lambda: now() + later)

    assert course().resumed
    assert course().drilled.checked == 2 == len(tried)
    for other in (course("west"), course(sample=9), course(later=2 * keeping.BREAK)):
        assert (other.resumed, other.after, other.drilled.checked) == (False, None, 0)


async def test_a_command_goes_on_with_what_a_killed_worker_left(
    site: Site, tried: list[str]
) -> None:
    await fill(site)
    runs, brief = site.bench.catalog.runs, timedelta()
    run = await runs.claim(EVERYTHING, "east", holder="w", every=brief, lease=timedelta(hours=1))
    assert run is not None
    cut = Row(run, 4)
    with pytest.raises(RunLost):
        await drill_of(site).run(site.east, everything=True, ledger=cut)
    await runs.release(cut.run)

    drilled = await drill_of(site).record(site.east, everything=True)

    assert drilled.checked == VERSIONS == len(tried)
    (ended,) = await runs.history(EVERYTHING)
    assert (ended.id, ended.state) == (run.id, RunState.DONE)
    assert ended.outcome == drilled.as_json()
    async with on_record(runs, EVERYTHING, "east") as entry:
        assert entry.ledger.run.cursor == "", "the next one is a new one"
