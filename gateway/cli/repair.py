"""`sealgate repair`: brings back what targets miss now, instead of when a worker gets to it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.bar import Bar, bar
from gateway.cli.command import (
    FINDINGS,
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    settings_of,
    show_json,
    show_rows,
    target_of,
    teach,
)
from gateway.cli.pace import Parallel, Rate, Requests, paced
from gateway.cli.scope import OneTenant, Target
from gateway.model import now
from gateway.ports import Lag
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.repair.repairer import Tally
    from gateway.wiring.core import Core

GLANCE = 0.3  # seconds between two looks at what was done
PAUSE = 2.0  # and before what failed is looked at again
SHARE = 0.5  # of the time: it may write to the catalog, as a worker may
HELP = teach(
    "Bring back what targets miss or hold damaged, from any good copy, ciphertext to ciphertext and "
    "without keys. Workers do this by themselves; it is safe beside them, and shares the work. It "
    "back-fills a target that is new, too. What failed is tried again later: with --until-done it waits "
    "for that.",
    "sealgate repair --dry-run",
    "sealgate repair --target singapore --until-done",
    "sealgate repair --target singapore --until-done --rate 200 --parallel 16",
    "sealgate repair --tenant ID --json",
    codes="Exit codes: 0 nothing is missing, 3 done but something failed or is still missing, "
    "1 it could not go on, 2 wrong usage or settings, 130 interrupted: what it held is given back.",
)


def repair(
    *,
    target: Target = None,
    tenant: OneTenant = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Go on until nothing is missing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is missing, and change nothing.")
    ] = False,
    rate: Rate = None,
    requests: Requests = None,
    parallel: Parallel = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Repair once."""
    settings = paced(
        settings_of(config),
        "repair",
        bytes_per_second=rate,
        requests_per_second=requests,
        parallel=parallel,
    )
    names = [each.name for each in settings.targets]
    if target is not None:
        target_of(settings, target)
    if dry_run and tenant is not None:
        fail("--dry-run counts what whole targets miss: leave out --tenant", USAGE)
    chosen = names if target is None else [target]
    tallies, lags = run(_repair(settings, chosen, tenant, until_done=until_done, dry_run=dry_run))
    if as_json:
        show_json({"targets": {lag.target: _fields(lag, tallies.get(lag.target)) for lag in lags}})
    else:
        _show(lags, tallies)
    failed = any(tally.failed for tally in tallies.values())
    if any(lag.objects for lag in lags) or (failed and not until_done):
        raise typer.Exit(FINDINGS)


async def _repair(
    settings: Settings, names: Sequence[str], tenant: str | None, *, until_done: bool, dry_run: bool
) -> "tuple[dict[str, Tally], Sequence[Lag]]":
    async with opened(settings, share=SHARE) as wired:
        if tenant is not None:
            await wired.catalog.tenant(tenant)
        lags = await wired.replicas.lag(names, tenant=tenant)
        if dry_run:
            return {}, lags
        with bar("repairing") as shown:
            if tenant is None:
                shown.total(sum(lag.bytes for lag in lags))
            tallies = await _passes(wired, names, tenant, shown, until_done=until_done)
        return tallies, await wired.replicas.lag(names, tenant=tenant)


async def _passes(
    wired: "Core", names: Sequence[str], tenant: str | None, shown: Bar, *, until_done: bool
) -> "dict[str, Tally]":
    from gateway.repair.repairer import Tally  # noqa: PLC0415 - help answers at once

    tallies = {name: Tally() for name in names}

    async def glance() -> None:
        told = 0
        while True:
            await asyncio.sleep(GLANCE)
            done = sum(tally.bytes for tally in tallies.values())
            shown.advance(done - told)
            told = done

    async with asyncio.TaskGroup() as tasks:
        glancing = tasks.create_task(glance())
        for name in names:
            await wired.repairer.adopt(name, tallies[name])
        while True:
            before = sum(tally.failed for tally in tallies.values())
            async with asyncio.TaskGroup() as targets:
                for name in names:
                    targets.create_task(
                        wired.repairer.repair(name, tenant=tenant, tally=tallies[name])
                    )
            failed = sum(tally.failed for tally in tallies.values()) > before
            left = any(lag.objects for lag in await wired.replicas.lag(names, tenant=tenant))
            resting = any(wired.repairer.resting(name) for name in names)
            if not until_done or not (failed or left or resting):
                break
            await asyncio.sleep(PAUSE)
        glancing.cancel()
    return tallies


def _fields(lag: Lag, tally: "Tally | None") -> dict[str, object]:
    return {
        **({} if tally is None else asdict(tally)),
        "pending": lag.objects,
        "pending_bytes": lag.bytes,
        "failing": lag.failing,
        "oldest": None if lag.oldest is None else lag.oldest.isoformat(),
    }


def _show(lags: Sequence[Lag], tallies: "dict[str, Tally]") -> None:
    titles = ["TARGET", "PENDING", "BYTES", "FAILING", "BEHIND"]
    rows = [
        [lag.target, str(lag.objects), str(lag.bytes), str(lag.failing), _behind(lag)]
        for lag in lags
    ]
    if tallies:
        titles[1:1] = ["REPAIRED", "FOUND WHOLE", "FAILED"]
        for row in rows:
            tally = tallies[row[0]]
            row[1:1] = [str(tally.filled), str(tally.whole), str(tally.failed)]
    show_rows(titles, rows)


def _behind(lag: Lag) -> str:
    if lag.oldest is None:
        return "-"
    return f"{max(0, round((now() - lag.oldest).total_seconds()))} s"
