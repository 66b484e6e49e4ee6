"""`python -m benchmarks`: what Sealgate costs, as ratios of one run.

Measures every subject at every workload, interleaved, and the envelope alone; writes `figures.json`
(with every sample), `report.md` and `figures.png` into a folder. `--quick` takes under two minutes and
is for seeing that nothing broke; its figures are of one round and say little.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import names, rounds
from benchmarks.figures import figures
from benchmarks.machine import machine, versions
from benchmarks.plot import plot
from benchmarks.report import report
from benchmarks.subjects import (
    Direct,
    Place,
    Plain,
    Rclone,
    Sealgate,
    Sink,
    Subject,
    environment,
    workers_known,
)
from benchmarks.verify import verify
from benchmarks.workloads import FULL, QUICK, Workload
from tests.servers import binary
from tests.servers.versitygw import Versitygw
from tests.stack.stack import Bucket

HERE = Path(__file__).resolve().parent
ROOM = 6 * 2**30  # free bytes that stores and catalogs may need at a time
MEMORY = Path("/dev/shm")
ROUNDS = 5
MINUTES = 13.0  # that the rounds of a whole run end in, on however slow a machine


@contextmanager
def home() -> Iterator[Path]:
    """Give a folder, in memory where there is room, so that no disk is measured."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM
    with tempfile.TemporaryDirectory(
        prefix="sealgate-bench-", dir=MEMORY if in_memory else None
    ) as folder:
        yield Path(folder)


def subjects(place: Path, s3: Versitygw, sink: Sink, *, quick: bool) -> Iterator[Subject]:
    """Yield what is measured. A quick run leaves out several stores and several processes."""

    def real(count: int = 1) -> list[Bucket]:
        return [Bucket(s3, s3.new_bucket()) for _ in range(count)]

    def drain(count: int = 1) -> list[Bucket]:
        return [sink.bucket(f"sink-{number}") for number in range(count)]

    yield Direct(names.DIRECT, *real(), reads=True)
    yield Plain(names.PLAIN, place / "plain", real(), reads=True)
    yield Plain(names.BARE, place / "bare", real(), reads=True, module="benchmarks.bare")
    yield Sealgate(names.SEALGATE, place / "sealgate", real(), reads=True)
    if not quick:
        yield Plain(names.TWO, place / "two", real(2), reads=False)
        yield Sealgate(names.BACKUP, place / "backup", real(2), reads=False)
    if workers_known() and not quick:
        yield Sealgate(names.WORKERS, place / "workers", real(), reads=True, workers=2)
    yield Rclone(names.RCLONE, place / "rclone", *real())
    yield Direct(names.DIRECT_SINK, *drain(), reads=False)
    yield Plain(names.PLAIN_SINK, place / "plain-sink", drain(), reads=False)
    yield Sealgate(names.SEALGATE_SINK, place / "sealgate-sink", drain(), reads=False)
    if not quick:
        bare = "benchmarks.bare"
        yield Plain(names.BARE_SINK, place / "bare-sink", drain(), reads=False, module=bare)
        yield Plain(names.TWO_SINK, place / "two-sink", drain(2), reads=False)
        yield Sealgate(names.BACKUP_SINK, place / "backup-sink", drain(2), reads=False)


def measured(
    workloads: Sequence[Workload], count: int, until: float, *, quick: bool
) -> list[rounds.Sample]:
    """Start everything, measure, stop everything."""
    with ExitStack() as running:
        place = running.enter_context(home())
        s3 = Versitygw(binary.obtain(binary.VERSITYGW, _say), place / "s3")
        sink = Sink(place / "sink")
        for server in (s3, sink):
            server.start()
            running.callback(server.stop)
        started: list[tuple[Subject, Place]] = []
        for subject in subjects(place, s3, sink, quick=quick):
            _say(f"starting {subject.name}")
            at = subject.start()
            running.callback(subject.stop)
            verify(subject, at)
            started.append((subject, at))
        return rounds.run(started, workloads, count, _say, until=until)


def envelope(count: int) -> dict[str, Any]:
    """Return what `benchmarks/envelope.py` measures of the sealing alone."""
    argv = [sys.executable, str(HERE / "envelope.py"), "--json", "--rounds", str(count)]
    done = subprocess.run(argv, env=environment(), check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, smaller sizes")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds, {ROUNDS} by default if they fit into {MINUTES:.0f} min"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    count = arguments.rounds or (1 if quick else ROUNDS)
    workloads = QUICK if quick else FULL
    began, load = time.monotonic(), os.getloadavg()[0]
    run: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "make bench QUICK=1" if quick else "make bench",
        "machine": machine(),
        "versions": versions(),
    }
    until = math.inf if arguments.rounds else began + MINUTES * 60
    samples = measured(workloads, count, until, quick=quick)
    run["rounds"] = max(Counter((s.subject, s.workload, s.operation) for s in samples).values())
    _say("the envelope alone")
    run["envelope"] = envelope(20 if quick else 150)
    run["load_average"] = [load, os.getloadavg()[0]]
    run["took"] = time.monotonic() - began
    found = figures(samples, workloads)
    told = report(run, found, workloads)
    run["figures"] = [
        {"subject": key[0], "workload": key[1], "operation": key[2], **asdict(figure)}
        for key, figure in found.items()
    ]
    run["samples"] = [asdict(sample) for sample in samples]
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(run, indent=1))
    (out / "report.md").write_text(told)
    plot(found, workloads, out / "figures.png")
    print(told)
    _say(f"took {time.monotonic() - began:.0f} s; written to {out}")
    return 0


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
