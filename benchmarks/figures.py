"""From samples to figures: medians of rounds, percentiles of all requests, ratios, aims."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounds import PART, Sample
from benchmarks.workloads import RANGE, Workload

MiB = 1024 * 1024
GiB = 1024 * MiB


@dataclass(frozen=True, slots=True)
class Figure:
    """One subject at one workload and operation.

    `speed` in MiB/s and `rate` in operations/s; CPU seconds a GiB (`cpu`) and a thousand operations
    (`cpu_k`, and the key service's `keys_k`); times in milliseconds; `peak` in MiB, of the first round,
    before all workloads left their buffers in the pools; `received` bytes and `key_calls` an operation;
    the load generator's share of one core.
    """

    speed: float
    rate: float
    cpu: float
    cpu_k: float
    keys_k: float
    first_p50: float
    first_p99: float
    total_p50: float
    total_p99: float
    peak: float
    received: float
    key_calls: float
    load: float


Key = tuple[str, str, str]  # subject, workload, operation
Figures = Mapping[Key, Figure]


def figures(samples: Iterable[Sample], workloads: Sequence[Workload]) -> dict[Key, Figure]:
    """Return the figure of every subject, workload and operation that there are samples of."""
    sizes = {workload.name: workload.size for workload in workloads}
    grouped: dict[Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.subject, sample.workload, sample.operation].append(sample)
    return {
        key: _figure(group, RANGE if key[2] == PART else sizes[key[1]])
        for key, group in grouped.items()
    }


def _figure(group: Sequence[Sample], size: int) -> Figure:
    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    first = [1000 * each for sample in group for each in sample.first]
    total = [1000 * each for sample in group for each in sample.total]
    return Figure(
        speed=median(s.operations * size / MiB / s.seconds for s in group),
        rate=median(s.operations / s.seconds for s in group),
        cpu=median(s.cpu / (s.operations * size / GiB) for s in group),
        cpu_k=median(1000 * s.cpu / s.operations for s in group),
        keys_k=median(1000 * s.cpu_keys / s.operations for s in group),
        first_p50=percentile(first, 0.5),
        first_p99=percentile(first, 0.99),
        total_p50=percentile(total, 0.5),
        total_p99=percentile(total, 0.99),
        peak=group[0].peak / MiB,
        received=median(s.received / s.operations for s in group),
        key_calls=median(s.key_calls / s.operations for s in group),
        load=median(s.cpu_load / s.seconds for s in group),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed (the nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
