"""`python -m benchmarks.beside`: what a back-fill and a scrub cost the requests beside them.

A gateway with three targets, the third of which is new: what the first two hold is to be copied there. Reads
and writes go through the gateway by turns alone, beside a worker that back-fills the new target, and beside
one that scrubs all of them, with the default settings. The targets are folders in memory, so that no disk
is measured but the catalog's, which is on SQLite, or with `--postgres` on PostgreSQL. One in eight
attachments has a body of 1 MiB, the others travel in their envelopes. With `--commands` the same beside
`sealgate repair` and `sealgate scrub --all`. Writes `beside.json` and prints a table.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.__main__ import HERE, MEMORY
from benchmarks.catalogs import catalog
from benchmarks.command import at_work
from benchmarks.foreground import ROUNDS, SECONDS, Comparison, Work, compare
from benchmarks.machine import machine, versions
from benchmarks.rotation_fill import TARGETS, fill
from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from tests.stack.client import Client
from tests.stack.stack import Stack

NEW = "west"
LARGE = 8  # one in so many has a body of its own
A_SECOND = 500  # attachments that are filled in for each: as many as the configured rates take
STARTING = 4.0  # seconds that a command may be at it before it is timed
WORKS = {
    "a back-fill": ("worker", "--once", "--kind", "repair"),
    "a scrub": ("worker", "--once", "--kind", "scrub"),
}
COMMANDS = {
    "sealgate repair": ("repair", "--target", NEW),
    "sealgate scrub --all": ("scrub", "--target", TARGETS[-1], "--all"),
}


class Command:
    """One that fills or verifies replicas, over the same attachments as others."""

    def __init__(self, stack: Stack, core: Core, words: Sequence[str]) -> None:
        self._stack = stack
        self._core = core
        self._words = words

    async def prepare(self) -> None:
        """Implement `Work.prepare`: there is enough for all rounds."""

    def going(self) -> AbstractAsyncContextManager[None]:
        """Implement `Work.going`."""
        return at_work(self._stack, self._words, self.done)

    async def done(self) -> int:
        """Implement `Work.done`: uploads are verified by nobody, what a repair wrote is."""
        held = [await self._core.replicas.holding(name) for name in (*TARGETS, NEW)]
        return sum(each.objects - each.unchecked for each in held)


async def measured(
    stack: Stack, home: Path, *, commands: bool, rounds: int, seconds: float
) -> Comparison:
    """Fill the targets but for the new one, and measure."""
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    async with (
        open_core(settings, patience=60.0) as core,
        Client(stack.url, await asyncio.to_thread(stack.admin_token)) as client,
    ):
        chosen = WORKS | COMMANDS if commands else WORKS
        count = round(A_SECOND * (seconds + STARTING) * rounds * len(chosen) / 2)
        await fill(core, await client.create_tenant(), count, home, large=LARGE)
        works: dict[str, Work] = {
            name: Command(stack, core, words) for name, words in chosen.items()
        }
        return await compare(client, works, rounds=rounds, seconds=seconds)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="with a catalog on PostgreSQL")
    parser.add_argument("--commands", action="store_true", help="beside the commands, too")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each round's turns")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    options = parser.parse_args()
    started, load_before = datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="sealgate-bench-") as folder,
        tempfile.TemporaryDirectory(
            prefix="sealgate-bench-", dir=MEMORY if MEMORY.is_dir() else None
        ) as stores,
    ):
        home, targets = Path(folder), Path(stores)
        home.chmod(0o755)  # PostgreSQL runs as another account
        with catalog(home, postgres=options.postgres) as url:
            stack = Stack(
                home / "stack",
                targets={name: targets / name for name in (*TARGETS, NEW)},
                catalog=url,
                top={"log_level": "error"},
                extra={"scrub": {"sample": 0}},  # nobody has the keys of what is filled in
            )
            stack.start()
            try:
                found = asyncio.run(
                    measured(
                        stack,
                        targets,
                        commands=options.commands,
                        rounds=options.rounds,
                        seconds=options.seconds,
                    )
                )
            finally:
                stack.stop()
    loads = [load_before, os.getloadavg()[0]]
    on = "PostgreSQL" if options.postgres else "SQLite"
    run: dict[str, Any] = {
        "started": started,
        "machine": machine(),
        "versions": versions(),
        "load_average": loads,
        "catalog": on,
        "rounds": options.rounds,
        "seconds": options.seconds,
        **found.figures(),
    }
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    name = "beside-postgres.json" if options.postgres else "beside.json"
    (out / name).write_text(json.dumps(run, indent=1))
    print(found.table())
    print(
        f"\n{started}, `python -m benchmarks.beside{' --postgres' * options.postgres}`, {on}, "
        f"{options.rounds} rounds of {options.seconds:g} s; load average {loads[0]:.1f} before, "
        f"{loads[1]:.1f} after."
    )


if __name__ == "__main__":
    main()
