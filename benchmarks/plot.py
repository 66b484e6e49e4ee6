"""The figures of a run as bars: CPU and throughput over those of plain, a panel a workload."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.names import FLOORS
from benchmarks.rounds import GET, PUT
from benchmarks.workloads import Workload


def plot(found: Figures, workloads: Sequence[Workload], path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and only a whole run draws

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    subjects = [name for name in dict.fromkeys(key[0] for key in found) if name in FLOORS]
    figure, panels = plt.subplots(2, len(workloads), figsize=(5 * len(workloads), 9), squeeze=False)
    for row, (measure, title) in zip(
        panels, (("cpu", "CPU time / plain"), ("rate", "throughput / plain")), strict=True
    ):
        for panel, workload in zip(row, workloads, strict=True):
            for shift, operation, colour in ((-0.2, PUT, "tab:blue"), (0.2, GET, "tab:orange")):
                heights = [_over(found, each, workload, operation, measure) for each in subjects]
                places = [number + shift for number in range(len(subjects))]
                panel.barh(places, heights, height=0.4, color=colour, label=operation)
            panel.set_yticks(range(len(subjects)), subjects, fontsize=8)
            panel.invert_yaxis()
            panel.axvline(1.0, color="black", linewidth=0.8)
            panel.set_title(f"{workload.title}, {workload.at_once} at once: {title}", fontsize=9)
            panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _over(found: Figures, name: str, workload: Workload, operation: str, measure: str) -> float:
    own = found.get((name, workload.name, operation))
    floor = found.get((FLOORS[name], workload.name, operation))
    if own is None or floor is None or not getattr(floor, measure):
        return 0.0
    return float(getattr(own, measure) / getattr(floor, measure))
