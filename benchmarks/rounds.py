"""Rounds: every subject after the other, at every workload, again and again.

Interleaved, so that whatever else the machine does strikes all alike, and in an order that moves by one
from round to round. What was stored is removed behind the servers' backs after each turn.
"""

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import usage
from benchmarks.load import Job, Outcome, Request
from benchmarks.subjects import Place, Subject, environment
from benchmarks.workloads import RANGE, Workload, spans
from tests.servers.ports import LOOPBACK

PUT, GET, PART = "PUT", "GET", "range"


@dataclass(frozen=True, slots=True)
class Sample:
    """One subject at one workload in one round. CPU in seconds: its own, its key service's, the load's.

    `received` is what its processes read from sockets and files; `key_calls` are the requests that its
    key service recorded.
    """

    subject: str
    workload: str
    operation: str
    operations: int
    seconds: float
    cpu: float
    cpu_keys: float
    cpu_load: float
    peak: int
    received: int
    key_calls: int
    first: list[float] = field(repr=False)
    total: list[float] = field(repr=False)


class LoadFailed(Exception):
    """The load generator could not do its job; the text says at whom and why."""


def run(
    subjects: Sequence[tuple[Subject, Place]],
    workloads: Sequence[Workload],
    rounds: int,
    progress: Callable[[str], None],
    *,
    until: float = math.inf,
) -> list[Sample]:
    """Return all samples of that many rounds, or of as many as can end by `until` (of `monotonic`)."""
    samples: list[Sample] = []
    longest = 0.0
    for number in range(rounds):
        began = time.monotonic()
        if number and began + longest > until:
            break
        turn = number % len(subjects)
        for workload in workloads:
            for subject, place in (*subjects[turn:], *subjects[:turn]):
                progress(f"round {number + 1} of {rounds}: {workload.title}, {subject.name}")
                samples += _turn(subject, place, workload, f"r{number}")
        longest = max(longest, time.monotonic() - began)
    return samples


def _turn(subject: Subject, place: Place, workload: Workload, prefix: str) -> Iterator[Sample]:
    size = workload.size
    names = [f"{prefix}s{size}n{number}" for number in range(workload.count)]
    length = {"Content-Length": str(size)}
    puts = [Request(subject.head("PUT", name, length), sends=size) for name in names]
    yield _measured(subject, place, workload, PUT, puts)
    if subject.reads:
        gets = [Request(subject.head("GET", name, {}), receives=size) for name in names]
        yield _measured(subject, place, workload, GET, gets)
        if workload.ranges:
            parts = [
                Request(
                    subject.head("GET", names[0], {"Range": f"bytes={first}-{last}"}),
                    receives=RANGE,
                )
                for first, last in spans(workload)
            ]
            yield _measured(subject, place, workload, PART, parts)
    for bucket in subject.buckets:
        empty(bucket.folder)


def _measured(
    subject: Subject, place: Place, workload: Workload, operation: str, requests: list[Request]
) -> Sample:
    job = Job(LOOPBACK, place.port, workload.at_once, requests)
    usage.forget_peak(place.pids)
    before, keys = usage.cpu(place.pids), usage.cpu(place.keys)
    had, asked = usage.read(place.pids), _lines(place.audit)
    outcome = generate(job, f"{subject.name}, {workload.title}, {operation}")
    return Sample(
        subject=subject.name,
        workload=workload.name,
        operation=operation,
        operations=len(requests),
        seconds=outcome.seconds,
        cpu=usage.cpu(place.pids) - before,
        cpu_keys=usage.cpu(place.keys) - keys,
        cpu_load=outcome.cpu,
        peak=usage.peak(place.pids),
        received=usage.read(place.pids) - had,
        key_calls=_lines(place.audit) - asked,
        first=outcome.first,
        total=outcome.total,
    )


def _lines(record: Path | None) -> int:
    return record.read_bytes().count(b"\n") if record is not None else 0


def generate(job: Job, what: str) -> Outcome:
    """Run the load generator in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(job)),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(f"{what}: {done.stderr.strip()[-500:]}")
    return Outcome(**json.loads(done.stdout))


def empty(bucket: Path) -> None:
    """Remove what is in a bucket's folder, but the folders at its top, which servers remember."""
    for each in bucket.iterdir():
        if not each.is_dir():
            each.unlink()
            continue
        for below in each.iterdir():
            if below.is_dir():
                shutil.rmtree(below)
            else:
                below.unlink()
