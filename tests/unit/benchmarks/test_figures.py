"""Medians, ratios and verdicts, on samples made up to have known answers."""

from pathlib import Path

import pytest

from benchmarks import names
from benchmarks.aims import AIMS, Aim, judge
from benchmarks.figures import Figure, figures, percentile
from benchmarks.plot import plot
from benchmarks.report import aims, everything, ratios
from benchmarks.rounds import GET, PART, PUT, Sample, empty
from benchmarks.workloads import FULL, LARGE, MIDDLE, QUICK, RANGE, Workload, spans

MiB = 1024 * 1024


def sample(subject: str, seconds: float, cpu: float, operation: str = PUT) -> Sample:
    return Sample(
        subject=subject,
        workload=LARGE,
        operation=operation,
        operations=1,
        seconds=seconds,
        cpu=cpu,
        cpu_keys=0.0,
        cpu_load=seconds / 10,
        peak=100 * MiB,
        received=1 * MiB,
        key_calls=0,
        first=[seconds / 2],
        total=[seconds],
    )


def found(**cpu: float) -> dict[tuple[str, str, str], Figure]:
    subjects = {"plain": names.PLAIN, "sealgate": names.SEALGATE}
    return figures((sample(subjects[name], 4.0, value) for name, value in cpu.items()), FULL)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    rounds = [sample(names.PLAIN, seconds, 2 * seconds) for seconds in (1.0, 50.0, 2.0)]
    figure = figures(rounds, FULL)[names.PLAIN, LARGE, PUT]
    assert (figure.speed, figure.cpu, figure.cpu_k) == (512.0, 4.0, 4000.0)
    assert (figure.total_p50, figure.total_p99, figure.first_p50) == (2000.0, 50_000.0, 1000.0)
    assert figure.peak == 100.0


def test_ranges_count_by_their_own_size() -> None:
    figure = figures([sample(names.PLAIN, 0.5, 1.0, PART)], FULL)[names.PLAIN, LARGE, PART]
    assert figure.speed == 2.0


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_seen(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


@pytest.mark.parametrize(
    ("cpu", "word"), [(1.0, "met"), (1.004, "met"), (1.15, "floor"), (1.2, "missed")]
)
def test_an_aim_is_met_or_above_its_floor_or_missed(cpu: float, word: str) -> None:
    aim = next(each for each in AIMS if each.title == "CPU, PUT" and each.workload == LARGE)
    assert [each.word for each in judge(found(plain=1.0, sealgate=cpu), [aim])] == [word]


def test_an_aim_without_figures_is_not_measured() -> None:
    aim = Aim("throughput", "speed", LARGE, PUT, names.SEALGATE, names.PLAIN, 1.0)
    assert [each.word for each in judge(found(sealgate=1.0), [aim])] == ["not measured"]
    assert [each.word for each in judge({}, [aim])] == ["not measured"]


def test_the_tables_say_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    known = found(plain=2.0, sealgate=3.0)
    assert "| Sealgate | 1.00 (3.00) | - |" in "\n".join(ratios(known, FULL))
    told = "\n".join(aims(known, FULL))
    assert "| 1 GiB | CPU, PUT | Sealgate / plain | ≤ 1 (floor 1.15) | 1.50 | missed |" in told
    assert "not measured" in told
    assert "| 1 GiB | PUT | plain | 256 |" in "\n".join(everything(known, FULL))
    plot(known, FULL, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("workload", [each for each in (*FULL, *QUICK) if each.ranges])
def test_ranges_are_the_same_for_everybody_and_lie_within(workload: Workload) -> None:
    cut = list(spans(workload))
    assert cut == list(spans(workload))
    assert len(set(cut)) == workload.ranges
    assert all(
        first >= 0 and last - first == RANGE - 1 and last < workload.size for first, last in cut
    )


def test_every_aim_is_of_a_workload_that_both_runs_have() -> None:
    for workloads in (FULL, QUICK):
        titles = {workload.name for workload in workloads}
        assert {aim.workload for aim in AIMS} <= titles
    assert {aim.operation for aim in AIMS if aim.workload == MIDDLE} == {PUT, GET}


def test_emptying_a_bucket_keeps_the_folders_at_its_top(tmp_path: Path) -> None:
    (tmp_path / "t" / "tenant").mkdir(parents=True)
    for place in ("object", "t/object", "t/tenant/object"):
        (tmp_path / place).write_bytes(b"x")
    empty(tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "t"]
