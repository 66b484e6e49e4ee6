"""`sealgate rebuild-catalog`: a lost catalog from one target."""

from typing import Annotated, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    Config,
    Json,
    opened,
    run,
    settings_of,
    show_fields,
    show_json,
    target_of,
    teach,
)
from gateway.cli.counter import counter
from gateway.cli.scope import Source
from gateway.settings.config import Settings

HELP = teach(
    "Rebuild a lost catalog from what one target holds. The newest copy of the catalog there is loaded "
    "first, and every envelope that is newer is added; without a copy, every envelope. Needs the key "
    "service, and a new database after `sealgate migrate`. What it adds can be read only once all of it "
    "is there; one that was interrupted goes on when it is run again.",
    "sealgate rebuild-catalog --from east --dry-run",
    "sealgate rebuild-catalog --from east --json > rebuilt.json",
    "sealgate rebuild-catalog --from west --merge",
    codes="Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 done, but some envelopes were "
    "not taken.",
)


def rebuild_catalog(
    *,
    source: Source,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to a catalog that is in use what it lacks.")
    ] = False,
    ignore_backup: Annotated[
        bool, typer.Option("--ignore-backup", help="Take envelopes alone, no copy of the catalog.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and prove everything, change nothing.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Rebuild the catalog."""
    settings = settings_of(config)
    target_of(settings, source)
    flags = {"merge": merge, "use_backup": not ignore_backup}
    report, clean = run(_rebuild(settings, source, None if dry_run else flags))
    if as_json:
        show_json(report)
    else:
        _show(report, dry_run=dry_run)
    if not clean:
        raise typer.Exit(FINDINGS)


async def _rebuild(
    settings: Settings, source: str, flags: dict[str, bool] | None
) -> tuple[dict[str, Any], bool]:
    """Rebuild, or only look when no flags are given."""
    async with opened(settings, patience=600.0) as wired:
        target = next(target for target in wired.targets if target.name == source)
        with counter(f"reading {source}") as count:
            if flags is None:
                report = await wired.rescue.rebuild.look(
                    target, told=lambda report: count(report.envelopes)
                )
            else:
                report = await wired.rescue.rebuild.run(
                    target, told=lambda report: count(report.envelopes), **flags
                )
        return report.as_json(), report.clean


def _show(report: dict[str, Any], *, dry_run: bool) -> None:
    refused = ", ".join(f"{count} {reason}" for reason, count in report["refused"].items())
    shown = {
        "target": report["target"],
        "copy of the catalog": report["backup"] or "none",
        "envelopes": f"{report['envelopes']} ({report['known']} known before)",
        "could be added" if dry_run else "added": str(report["added"]),
        "of tenants": str(report["tenants"]),
        "older than the copy": str(report["older_than_backup"]),
        "not taken": refused or "none",
        "newest version": report["newest"] or "none",
        "seconds": str(report["seconds"]),
    }
    show_fields(shown)
    for tenant, reason in report["locked_tenants"].items():
        typer.echo(f"  tenant {tenant}: its keys cannot be had ({reason})")
    for tenant, blob, reason in report["findings"]:
        typer.echo(f"  {reason}: tenant {tenant}, blob {blob}")
    if report["older_than_backup"]:
        typer.echo(
            "  What is older than the copy and not in it was purged before, unless a gateway's clock"
            " was slow: `--merge --ignore-backup --dry-run` shows it."
        )
    typer.echo("What this target cannot know:")
    for name, what in report["unknown"].items():
        typer.echo(f"  {name}: {what}")
