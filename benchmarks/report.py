"""The tables of a run, in Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.aims import Verdict, judge, ratio
from benchmarks.figures import Figure, Figures
from benchmarks.names import DIRECT, FLOORS, PLAIN
from benchmarks.rounds import GET, PART, PUT
from benchmarks.workloads import Workload

NONE = "-"


def report(run: dict[str, Any], found: Figures, workloads: Sequence[Workload]) -> str:
    """Return the whole text: where it ran, ratios, aims, every figure."""
    machine, load = run["machine"], run["load_average"]
    ran = f"{run['started']}, `{run['command']}`, {run['rounds']} rounds, {run['took']:.0f} s"
    lines = [
        f"{ran}; load average {load[0]:.1f} before, {load[1]:.1f} after.",
        ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
        "",
        ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".",
        "",
        *ratios(found, workloads),
        "",
        *aims(found, workloads),
        "",
        *everything(found, workloads),
        "",
        *envelope(run["envelope"]),
    ]
    return "\n".join(lines) + "\n"


def _table(titles: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def ratios(found: Figures, workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the table of throughput over that of the floor, with CPU seconds in brackets."""
    cells = [(workload, each) for workload in workloads for each in (PUT, GET)]
    cells += [(workload, PART) for workload in workloads if workload.ranges]
    titles = ["", *(f"{each} {workload.title}" for workload, each in cells if each != PART)]
    titles += ["1 MiB range, time to direct", "peak MiB"]

    def rows() -> Iterator[list[str]]:
        for subject in _subjects(found):
            row = [subject]
            for workload, each in cells:
                own = found.get((subject, workload.name, each))
                base = DIRECT if each == PART else FLOORS.get(subject, subject)
                floor = found.get((base, workload.name, each))
                row.append(_ratio(own, floor, workload, each))
            peaks = [f.peak for (name, _, _), f in found.items() if name == subject]
            row.append(f"{max(peaks):.0f}" if max(peaks) else NONE)
            yield row

    yield from _table(titles, rows())


def _ratio(own: Figure | None, floor: Figure | None, workload: Workload, operation: str) -> str:
    if own is None or floor is None:
        return NONE
    if operation == PART:
        return f"{own.total_p50 / floor.total_p50:.2f}"
    cost = own.cpu_k if workload.per_operation else own.cpu
    shown = f"{ratio(own, floor, 'rate'):.2f}"
    return f"{shown} ({cost:.2f})" if cost else shown


def aims(found: Figures, workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the table of aims and whether they are met."""
    titled = {workload.name: workload.title for workload in workloads}

    def row(verdict: Verdict) -> list[str]:
        aim, sign = verdict.aim, "≥" if verdict.aim.at_least else "≤"
        limit = f"{sign} {aim.limit:g}"
        if aim.floor is not None:
            limit += f" (floor {aim.floor:g})"
        value = NONE if verdict.value is None else f"{verdict.value:.2f}"
        base = f" / {aim.base}" if aim.base else ""
        word = {"floor": "missed, above the floor"}.get(verdict.word, verdict.word)
        title = titled.get(aim.workload, aim.workload)
        return [title, aim.title, f"{aim.subject}{base}", limit, value, word]

    titles = ["Workload", "Aim", "Of", "Limit", "Measured", ""]
    yield from _table(titles, (row(verdict) for verdict in judge(found)))


def everything(found: Figures, workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the table of every figure."""
    titles = ["Workload", "Operation", "Subject", "MiB/s", "op/s", "CPU s/GiB", "CPU s/1000 op"]
    titles += ["key service, CPU s/1000 op", "first byte p50 / p99 ms", "whole p50 / p99 ms"]
    titles += ["peak MiB", "load generator's CPU"]

    def rows() -> Iterator[list[str]]:
        for workload in workloads:
            for operation in (PUT, GET, PART):
                for subject in _subjects(found):
                    own = found.get((subject, workload.name, operation))
                    if own is not None:
                        yield [workload.title, operation, subject, *_columns(own)]

    yield from _table(titles, rows())


def _columns(own: Figure) -> list[str]:
    return [
        f"{own.speed:.0f}",
        f"{own.rate:.1f}",
        f"{own.cpu:.2f}" if own.cpu else NONE,
        f"{own.cpu_k:.2f}" if own.cpu_k else NONE,
        f"{own.keys_k:.2f}" if own.keys_k else NONE,
        f"{own.first_p50:.1f} / {own.first_p99:.1f}",
        f"{own.total_p50:.1f} / {own.total_p99:.1f}",
        f"{own.peak:.0f}" if own.peak else NONE,
        f"{own.load:.0%}",
    ]


def envelope(told: dict[str, Any] | None) -> Iterator[str]:
    """Yield the table of the sealing alone."""
    if told is None:
        return

    def row(line: dict[str, Any]) -> list[str]:
        target = "" if line["target"] is None else f"≥ {line['target']:.2f}"
        speed = f"{line['bytes_per_second'] / 1e9:.2f}"
        return [line["subject"], line["baseline"] or "", speed, f"{line['ratio']:.2f}", target]

    titles = ["Envelope alone", "against", "GB/s", "ratio", "aim"]
    yield from _table(titles, (row(line) for line in told["rows"]))


def _subjects(found: Figures) -> list[str]:
    names = dict.fromkeys(subject for subject, _, _ in found)
    return sorted(names, key=lambda name: ("sink" in name, name != DIRECT, name != PLAIN))
