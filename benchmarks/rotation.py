"""`python -m benchmarks.rotation`: how fast envelopes come under a new KEK, and what it costs others.

Tenants of several sizes are filled with small attachments, straight into a catalog on SQLite, or with
`--postgres` on PostgreSQL; the key service runs on a real Vault. Timed is what `sealgate rotate kek` does
for each but for the writes to stores: reading pages, rewrapping through the key service, changing the
catalog, with two targets. The command's part and the key service share one core. Vault's own audit log
tells how often it was asked. With `--foreground` reads and writes through a gateway are timed with and
without a rotation beside them.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import usage
from benchmarks.catalogs import catalog
from benchmarks.machine import machine, versions
from benchmarks.rotation_fill import TARGETS, fill
from benchmarks.rotation_load import AIM as FOREGROUND_AIM
from benchmarks.rotation_load import foreground
from gateway.pacing.patience import Patience
from gateway.pacing.rate import Rate
from gateway.rotation.rewrapping import EVERYTHING, Moved, Rewrapping
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.servers import binary
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.stack.stack import Stack

SIZES = (10_000, 100_000)
MILLION = 1_000_000
AIM = 2000


@dataclass(frozen=True, slots=True)
class Timed:
    """One rotation."""

    envelopes: int
    seconds: float
    cpu: float  # of the command's part
    keys_cpu: float  # of the key service
    vault: int  # requests that Vault got

    @property
    def rate(self) -> float:
        """Envelopes a second."""
        return self.envelopes / self.seconds


async def rotate(core: Core, stack: Stack, audit: Path, count: int) -> Timed:
    """Fill a tenant, rotate its KEK, and time the rewrap."""
    tenant = (await core.services.tenants.create()).id
    await fill(core, tenant, count)
    (old,) = [use.kek for use in await core.wraps.uses(tenant)]
    keys = (stack.keys.pid,)
    asked, used = requests(audit), usage.cpu(keys)
    await core.keys.control.rotate_kek(tenant, old, reason="benchmark")
    rewrapping = Rewrapping(core.wraps, core.keys, rate=Rate(), patience=Patience(60.0))
    began, mine, moved = time.monotonic(), time.process_time(), Moved()
    await rewrapping.move(tenant, old, EVERYTHING, moved)
    seconds, cpu = time.monotonic() - began, time.process_time() - mine
    assert moved.rewrapped == count, moved
    return Timed(count, seconds, cpu, usage.cpu(keys) - used, requests(audit) - asked)


def requests(audit: Path) -> int:
    """Count the requests of which Vault's audit log tells, but for log-ins."""
    with audit.open() as lines:
        records = (json.loads(line) for line in lines if '"type":"request"' in line)
        return sum(not each["request"]["path"].startswith("auth/") for each in records)


@contextmanager
def one_core() -> Iterator[None]:
    """Let this process, and what it starts, run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def rates(stack: Stack, audit: Path, sizes: Sequence[int]) -> list[Timed]:
    """Rotate tenants of these sizes, one after another."""
    done = []
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    async with open_core(settings, patience=60.0, late=True) as core:
        for size in sizes:
            done.append(await rotate(core, stack, audit, size))
            each = done[-1]
            print(
                f"{each.envelopes:>9} envelopes  {each.seconds:7.1f} s  {each.rate:7.0f}/s  "
                f"CPU {each.cpu:6.1f} s + key service {each.keys_cpu:6.1f} s  "
                f"{each.vault} requests to Vault"
            )
    return done


def main() -> None:
    """Read the sizes, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="envelopes")
    parser.add_argument("--million", action="store_true", help="a million, too")
    parser.add_argument("--foreground", action="store_true", help="time reads and writes beside it")
    parser.add_argument("--postgres", action="store_true", help="with a catalog on PostgreSQL")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    sizes = [*options.sizes, *([MILLION] if options.million else [])]
    load_before = os.getloadavg()[0]
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')}, load average {load_before:.1f}")
    print(", ".join(f"{name} {value}" for name, value in (machine() | versions()).items()))
    program = binary.find(binary.VAULT)
    if program is None:
        sys.exit("no Vault here: python -m tests.servers.install")
    # Their disk is not the catalog's: what it delays is not what is measured.
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="sealgate-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="sealgate-bench-", dir=memory) as stores,
    ):
        home, targets = Path(folder), Path(stores)
        home.chmod(0o755)  # PostgreSQL runs as another account
        vault = Vault(program, home / "vault")
        with catalog(home, postgres=options.postgres) as url:
            vault.start()
            try:
                figures = measured(home, targets, vault, url, sizes, beside=options.foreground)
            finally:
                vault.stop()
    print(f"load average after {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measured(
    home: Path, targets: Path, vault: Vault, url: str, sizes: Sequence[int], *, beside: bool
) -> dict[str, object]:
    """Measure on one stack, whose targets are folders in `targets`."""
    audit = home / "vault-audit.jsonl"
    with vault.client() as client:
        client.sys.enable_audit_device("file", options={"file_path": str(audit)})
    stack = Stack(
        home / "stack",
        targets={name: targets / name for name in TARGETS},
        catalog=url,
        vault=prepare(vault, home),
        top={"log_level": "error"},
        extra={"keyservice": {"cache_ttl": 0}},
    )
    with one_core():
        stack.start()
        stack.gateway.stop()
        try:
            done = asyncio.run(rates(stack, audit, sizes))
        finally:
            stack.keys.stop()
    figures: dict[str, object] = {
        "rates": [{"envelopes": each.envelopes, "per_second": each.rate} for each in done]
    }
    slowest = min(each.rate for each in done)
    print(f"envelopes a second, the slowest: {slowest:.0f} (aim {AIM})")
    if beside:
        stack.start()
        try:
            found = asyncio.run(foreground(stack, targets))
            print(found.table())
            print(f"(aim {FOREGROUND_AIM} for the ratios of p99)")
            figures["foreground"] = found.figures()
        finally:
            stack.stop()
    return figures


if __name__ == "__main__":
    main()
