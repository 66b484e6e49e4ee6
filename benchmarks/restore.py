"""`python -m benchmarks.restore`: how fast a restore is, against `rclone copy` between the same stores.

Two S3 servers; attachments of mixed sizes are uploaded through a gateway, so that both hold the same
objects. Then, in turns, the primary is emptied and filled again from the backup: by `sealgate restore
--all`, which verifies every byte against the envelopes, and by `rclone copy`. Timed is the whole process,
from its start to its end. Writes `restore.json` and prints a table and the line for docs/performance.md.
"""

import argparse
import asyncio
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.__main__ import HERE, home
from benchmarks.machine import machine, versions
from benchmarks.subjects import environment
from tests.servers import binary
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack

MiB = 1024 * 1024
AIM = 0.8
SEALGATE, RCLONE = "sealgate restore", "rclone copy"
FULL = {64 * 1024: 1500, 256 * 1024: 800, MiB: 400, 8 * MiB: 120, 128 * MiB: 12}
QUICK = {64 * 1024: 60, MiB: 20, 8 * MiB: 4, 32 * MiB: 1}


@dataclass(frozen=True, slots=True)
class Lap:
    """One subject, once."""

    subject: str
    seconds: float
    cpu: float  # seconds of that process and its children


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restore", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    run: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.restore" + (" --quick" if arguments.quick else ""),
        "machine": machine(),
        "versions": versions(),
        "sizes": sizes,
        "load_average": [os.getloadavg()[0]],
    }
    laps, size, count = measured(sizes, 1 if arguments.quick else arguments.rounds)
    run["load_average"].append(os.getloadavg()[0])
    run |= {"bytes": size, "objects": count, "laps": [asdict(lap) for lap in laps]}
    run["ratio"] = ratio(laps)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "restore.json").write_text(json.dumps(run, indent=1))
    print(table(laps, size, count))
    print(line(run))
    return 0


def measured(sizes: dict[int, int], rounds: int) -> tuple[list[Lap], int, int]:
    """Fill both stores, then lose and restore the primary in turns. Returns bytes and objects, too."""
    with ExitStack() as running:
        place = running.enter_context(home())
        servers = []
        for name in ("primary", "backup"):
            server = Versitygw(binary.obtain(binary.VERSITYGW, _say), place / name)
            server.start()
            running.callback(server.stop)
            servers.append(Bucket(server, server.new_bucket()))
        primary, backup = servers
        stack = Stack(
            place / "stack",
            targets={"primary": primary, "backup": backup},
            catalog=f"sqlite:///{place / 'catalog.db'}",
        )
        stack.start()
        running.callback(stack.stop)
        _say("uploading")
        asyncio.run(_fill(stack, sizes))
        whole = _objects(backup)
        if _objects(primary) != whole:
            raise RuntimeError("the primary and the backup do not hold the same objects")
        laps = []
        for number in range(rounds):
            order = (SEALGATE, RCLONE) if number % 2 == 0 else (RCLONE, SEALGATE)
            for subject in order:
                _empty(primary)
                argv = _sealgate(stack) if subject == SEALGATE else _rclone(place, primary, backup)
                lap = _timed(subject, argv, stack)
                _say(f"round {number + 1}: {subject} {lap.seconds:.2f} s")
                if _objects(primary) != whole:
                    raise RuntimeError(f"{subject} did not bring everything back")
                laps.append(lap)
        return laps, sum(whole.values()), len(whole)


async def _fill(stack: Stack, sizes: dict[int, int]) -> None:
    rng = random.Random(1)
    async with Client(stack.url, stack.admin_token()) as client:
        tenant = await client.create_tenant()
        for size, count in sizes.items():
            for number in range(count):
                path = f"/v1/tenants/{tenant}/attachments/{size}-{number}"
                await client.json("PUT", path, data=io.BytesIO(rng.randbytes(size)))


def _sealgate(stack: Stack) -> list[str]:
    config = str(stack.home / "gateway.toml")
    argv = [sys.executable, "-m", "gateway", "restore", "--all", "--from", "backup"]
    return [*argv, "--config", config]


def _rclone(place: Path, to: Bucket, source: Bucket) -> list[str]:
    config = place / "rclone.conf"
    config.write_text(
        "".join(
            f"[{name}]\ntype = s3\nprovider = Other\nendpoint = {bucket.server.endpoint}\n"
            f"access_key_id = {bucket.server.access_key}\n"
            f"secret_access_key = {bucket.server.secret_key}\n"
            f"region = {bucket.server.region}\nno_check_bucket = true\n"
            for name, bucket in (("to", to), ("source", source))
        )
    )
    program = str(Path(sys.executable).with_name("rclone"))
    argv = [program, "copy", f"source:{source.name}", f"to:{to.name}", "--config", str(config)]
    return [*argv, "--cache-dir", str(place / "cache")]


def _timed(subject: str, argv: Sequence[str], stack: Stack) -> Lap:
    before, started = os.times(), time.monotonic()
    subprocess.run(
        argv, env={**environment(), **stack.environment}, check=True, stdout=subprocess.DEVNULL
    )
    seconds, after = time.monotonic() - started, os.times()
    used = after.children_user + after.children_system
    return Lap(subject, seconds, used - before.children_user - before.children_system)


def _objects(bucket: Bucket) -> dict[str, int]:
    """Return the size of every object by its key."""
    files = (path for path in (bucket.folder / "t").rglob("*") if path.is_file())
    return {str(path.relative_to(bucket.folder)): path.stat().st_size for path in files}


def _empty(bucket: Bucket) -> None:
    for entry in bucket.folder.iterdir():
        shutil.rmtree(entry)


def ratio(laps: Sequence[Lap]) -> float:
    """Return how fast the restore is to rclone, from the medians."""
    return _median(laps, RCLONE) / _median(laps, SEALGATE)


def table(laps: Sequence[Lap], size: int, count: int) -> str:
    """Return the figures for a person."""
    lines = ["| | s | MiB/s | objects/s | CPU s |", "|---|---|---|---|---|"]
    for subject in (SEALGATE, RCLONE):
        seconds = _median(laps, subject)
        cpu = statistics.median(lap.cpu for lap in laps if lap.subject == subject)
        rates = f"{size / MiB / seconds:.0f} | {count / seconds:.0f}"
        lines.append(f"| {subject} | {seconds:.2f} | {rates} | {cpu:.1f} |")
    return "\n".join(lines)


def line(run: dict[str, Any]) -> str:
    """Return the line for docs/performance.md."""
    word = "met" if run["ratio"] >= AIM else "missed"
    mib = run["bytes"] / MiB
    before, after = run["load_average"]
    return (
        f"{run['started']}, `{run['command']}`: {mib:.0f} MiB in {run['objects']} objects, medians of "
        f"{len(run['laps']) // 2} rounds, load average {before:.1f} before, {after:.1f} after: "
        f"{SEALGATE} / {RCLONE} {run['ratio']:.2f} (aim ≥ {AIM:g}: {word})."
    )


def _median(laps: Sequence[Lap], subject: str) -> float:
    return statistics.median(lap.seconds for lap in laps if lap.subject == subject)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
