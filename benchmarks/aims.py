"""What the hot path has to reach, as ratios of one run, and whether it does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure, Figures
from benchmarks.names import (
    BACKUP,
    BACKUP_SINK,
    DIRECT,
    PLAIN,
    PLAIN_SINK,
    SEALGATE,
    SEALGATE_SINK,
    TWO,
    TWO_SINK,
    WORKERS,
)
from benchmarks.rounds import GET, PART, PUT
from benchmarks.workloads import LARGE, MIDDLE, SMALL

MiB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Aim:
    """One line: a measure of `subject`, over that of `base` if there is one, against a limit.

    `floor` is what still will do where the aim itself is missed.
    """

    title: str
    measure: str
    workload: str
    operation: str
    subject: str
    base: str | None
    limit: float
    floor: float | None = None
    scale: float = 1.0

    @property
    def at_least(self) -> bool:
        """Tell whether more is better."""
        return self.measure in {"speed", "rate"}

    def holds(self, value: float, limit: float | None) -> bool:
        """Tell whether the value, as precise as it is printed, is on the right side of a limit."""
        if limit is None:
            return False
        shown = round(value, 2)
        return shown >= limit if self.at_least else shown <= limit


AIMS = (
    Aim("throughput, PUT", "speed", LARGE, PUT, SEALGATE, PLAIN, 1.0, 0.9),
    Aim("throughput, PUT to the sink", "speed", LARGE, PUT, SEALGATE_SINK, PLAIN_SINK, 1.0, 0.9),
    Aim("throughput, GET", "speed", LARGE, GET, SEALGATE, PLAIN, 1.0, 0.9),
    Aim("CPU, PUT", "cpu", LARGE, PUT, SEALGATE, PLAIN, 1.0, 1.15),
    Aim("CPU, PUT to the sink", "cpu", LARGE, PUT, SEALGATE_SINK, PLAIN_SINK, 1.0, 1.15),
    Aim("CPU, GET", "cpu", LARGE, GET, SEALGATE, PLAIN, 1.0, 1.15),
    Aim("CPU, PUT with one backup", "cpu", LARGE, PUT, BACKUP, TWO, 1.1),
    Aim("CPU, PUT with one backup, sinks", "cpu", LARGE, PUT, BACKUP_SINK, TWO_SINK, 1.1),
    Aim("CPU, PUT", "cpu", MIDDLE, PUT, SEALGATE, PLAIN, 1.1),
    Aim("CPU, GET", "cpu", MIDDLE, GET, SEALGATE, PLAIN, 1.1),
    Aim("throughput of two workers, GET", "speed", MIDDLE, GET, WORKERS, PLAIN, 1.4),
    Aim("operations/s to direct, PUT", "rate", SMALL, PUT, SEALGATE, DIRECT, 0.5),
    Aim("operations/s to direct, GET", "rate", SMALL, GET, SEALGATE, DIRECT, 0.9),
    Aim("time of a range to direct, p50", "total_p50", LARGE, PART, SEALGATE, DIRECT, 2.0),
    Aim(
        "MiB received a range of 1 MiB",
        "received", LARGE, PART, SEALGATE, None, 1.05, scale=1 / MiB,
    ),
    Aim("peak MiB, 1 stream", "peak", LARGE, PUT, SEALGATE, None, 128 + 24),
    Aim("peak MiB, 8 streams", "peak", MIDDLE, PUT, SEALGATE, None, 128 + 8 * 24),
    Aim("peak MiB, 32 streams", "peak", SMALL, PUT, SEALGATE, None, 128 + 32 * 24),
    Aim("key service calls a repeated GET", "key_calls", LARGE, PART, SEALGATE, None, 0.05),
    Aim("CPU of two workers a request, PUT", "cpu_k", SMALL, PUT, WORKERS, SEALGATE, 1.18),
)  # fmt: skip
"""Two workers do 1.7 times the work of one where a request costs at most 2 / 1.7 times the CPU."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An aim, the value that was measured, and "met", "floor", "missed" or "not measured"."""

    aim: Aim
    value: float | None
    word: str


def judge(found: Figures, aims: Sequence[Aim] = AIMS) -> Iterator[Verdict]:
    """Yield a verdict on every aim."""
    for aim in aims:
        value = _value(found, aim)
        if value is None:
            yield Verdict(aim, None, "not measured")
        elif aim.holds(value, aim.limit):
            yield Verdict(aim, value, "met")
        else:
            yield Verdict(aim, value, "floor" if aim.holds(value, aim.floor) else "missed")


def _value(found: Figures, aim: Aim) -> float | None:
    own = found.get((aim.subject, aim.workload, aim.operation))
    if own is None:
        return None
    if aim.base is None:
        return _measure(own, aim.measure) * aim.scale
    base = found.get((aim.base, aim.workload, aim.operation))
    return None if base is None else ratio(own, base, aim.measure)


def ratio(own: Figure, base: Figure, measure: str) -> float | None:
    """Return one measure over the other, None over nothing."""
    below = _measure(base, measure)
    return _measure(own, measure) / below if below else None


def _measure(figure: Figure, name: str) -> float:
    value: float = getattr(figure, name)
    return value
