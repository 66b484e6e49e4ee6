"""`sealgate drill`: proves that a backup can be restored from."""

from typing import Annotated, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    settings_of,
    show_fields,
    show_json,
    target_of,
    teach,
)
from gateway.cli.counter import counter
from gateway.settings.config import Settings

HELP = teach(
    "Prove that a backup can be restored from. A random sample, or everything, is restored from it into "
    "an empty catalog and an empty store, opened, and compared with what is in use; the newest copy of the "
    "catalog is loaded, too. Plaintext is in memory only. The result goes on record, which the alarm for "
    "overdue drills reads. A worker does this every night.",
    "sealgate drill",
    "sealgate drill --from east --sample 1000",
    "sealgate drill --all --json",
    "sealgate drill --history",
    codes="Exit codes: 0 everything came back as it was, 1 it failed, 2 wrong usage or settings, 3 some of "
    "it did not come back.",
)


def drill(
    *,
    source: Annotated[
        str | None, typer.Option("--from", metavar="TARGET", help="Default: each backup in turn.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything, not a sample.")] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many versions (drill.sample).")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Show the drills on record, and do none.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Drill."""
    settings = settings_of(config)
    if everything and sample is not None:
        fail("name one of --all and --sample", USAGE)
    if source is not None:
        target_of(settings, source)
    if history:
        _show_all(run(_history(settings, source)), as_json=as_json)
        return
    sources = [source] if source else _backups(settings)
    found = run(_drill(settings, sources, everything=everything, sample=sample))
    _show_all(found, as_json=as_json)
    if not all(each["good"] for each in found):
        raise typer.Exit(FINDINGS)


def _backups(settings: Settings) -> list[str]:
    names = [target.name for target in settings.targets if target.role == "backup"]
    if not names:
        fail("there is no backup to drill: name a target with --from", USAGE)
    return names


async def _drill(
    settings: Settings, sources: list[str], *, everything: bool, sample: int | None
) -> list[dict[str, Any]]:
    found = []
    async with opened(settings, patience=600.0) as wired:
        for name in sources:
            target = next(target for target in wired.targets if target.name == name)
            with counter(f"drill from {name}") as count:
                drilled = await wired.rescue.drill.record(
                    target,
                    everything=everything,
                    sample=sample,
                    told=lambda drilled: count(drilled.checked),
                )
            found.append(drilled.as_json())
    return found


async def _history(settings: Settings, source: str | None) -> list[dict[str, Any]]:
    async with opened(settings) as wired:
        return [dict(outcome) for outcome in await wired.rescue.drill.history(source)]


def _show_all(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        show_json({"drills": found})
        return
    for each in found:
        _show(each)
    if not found:
        typer.echo("no drill on record yet", err=True)


def _show(drilled: dict[str, Any]) -> None:
    copy = drilled["catalog_copy_failed"] or drilled["catalog_copy"] or "none"
    show_fields(
        {
            "from": f"{drilled['source']}, {'everything' if drilled['everything'] else 'a sample'}",
            "started": drilled["started"],
            "came back": f"{drilled['checked']} versions, {drilled['bytes']} bytes",
            "did not": str(drilled["failed"]),
            "missing there": str(drilled["missing"]),
            "keys withheld": str(drilled["locked"]),
            "copy of the catalog": str(copy),
            "RPO seen": f"{drilled['rpo_seconds']} s",
            "RTO seen": f"{drilled['rto_seconds']} s",
        }
    )
    for version, why in drilled["failures"]:
        typer.echo(f"  {why}: version {version}")
