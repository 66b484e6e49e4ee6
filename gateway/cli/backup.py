"""`sealgate backup catalog`, `list` and `restore-catalog`: copies of the catalog on the targets."""

from datetime import datetime
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
    show_rows,
    target_of,
    teach,
    time_of,
)
from gateway.cli.counter import telling
from gateway.cli.scope import Source, Target
from gateway.errors import NotFound, StoreError
from gateway.settings.config import Settings

_CATALOG = teach(
    "Copy the catalog to the targets, sealed, and verify it there. The copy is of one moment; a running "
    "gateway is not held up. Copies beyond `catalog_backup.keep` are removed, the oldest first. A worker "
    "does this by itself.",
    "sealgate backup catalog",
    "sealgate backup catalog --to east --to west --json",
    codes="Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 some targets did not take it.",
)
_LIST = teach(
    "List the copies of the catalog that open, newest first.",
    "sealgate backup list",
    "sealgate backup list --target east --json",
    codes="Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 a target did not answer.",
)
_RESTORE = teach(
    "Load a copy of the catalog into a new database, after `sealgate migrate`. It is all or nothing. What "
    "was stored after the copy was taken is not in it: `sealgate rebuild-catalog` adds that as well. "
    "Revoked tokens and deleted attachments are as they were then.",
    "sealgate backup restore-catalog --from east",
    "sealgate backup restore-catalog --from east --at 2026-11-22T03:00:00Z",
)

group = typer.Typer(help="Copy the catalog, list copies, restore one.", no_args_is_help=True)


@group.command("catalog", help=_CATALOG)
def catalog(
    *,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="TARGET", help="Repeatable. Default: all.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy the catalog."""
    settings = settings_of(config)
    for name in to or ():
        target_of(settings, name)
    made = run(_make(settings, to or []))
    if as_json:
        show_json(made)
    else:
        failed = ", ".join(f"{name} ({why})" for name, why in made["failed"].items())
        show_fields(
            {
                "taken": made["taken"],
                "bytes": str(made["size"]),
                "stored": ", ".join(made["stored"]),
                "failed": failed or "none",
                "older ones removed": str(made["pruned"]),
            }
        )
    if made["failed"]:
        raise typer.Exit(FINDINGS)


@group.command("list", help=_LIST)
def list_copies(
    *,
    target: Target = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List copies."""
    settings = settings_of(config)
    if target is not None:
        target_of(settings, target)
    copies, failed = run(_list(settings, target))
    if as_json:
        show_json({"copies": copies, "failed": failed})
    elif copies:
        rows = [[each["target"], each["taken"], str(each["bytes"])] for each in copies]
        show_rows(("target", "taken", "bytes"), rows)
    else:
        typer.echo("no copies yet: `sealgate backup catalog` makes one", err=True)
    for name in failed:
        typer.echo(f"sealgate: target {name} did not answer", err=True)
    if failed:
        raise typer.Exit(FINDINGS)


@group.command("restore-catalog", help=_RESTORE)
def restore_catalog(
    *,
    source: Source,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The newest copy not younger than this (ISO 8601)."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Restore a copy."""
    settings = settings_of(config)
    target_of(settings, source)
    restored = run(_restore(settings, source, time_of("--at", at)))
    if as_json:
        show_json(restored)
    else:
        rows = {name: str(count) for name, count in restored["rows"].items()}
        show_fields({"taken": restored["taken"], **rows})


async def _make(settings: Settings, names: list[str]) -> dict[str, Any]:
    from gateway.duties.record import on_record  # noqa: PLC0415 - help answers at once

    async with (
        opened(settings, patience=600.0) as wired,
        on_record(wired.runs, "catalog-backup", "") as entry,
    ):
        with telling("bytes copied") as told:
            made = await wired.rescue.backups.make(names, told=told)
        outcome: dict[str, Any] = {
            "taken": made.taken.isoformat(),
            "size": made.size,
            "stored": sorted(made.stored),
            "failed": dict(made.failed),
            "pruned": made.pruned,
        }
        entry.outcome, entry.good = outcome, not made.failed
    return outcome


async def _list(settings: Settings, name: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    copies: list[dict[str, Any]] = []
    failed = []
    async with opened(settings) as wired:
        for target in wired.targets:
            if name not in {None, target.name}:
                continue
            try:
                found = await wired.rescue.backups.copies(target)
            except StoreError:
                failed.append(target.name)
                continue
            copies += [
                {
                    "target": copy.target,
                    "taken": copy.taken.isoformat(),
                    "bytes": copy.size,
                    "blob": copy.blob,
                }
                for copy in found
            ]
    return copies, failed


async def _restore(settings: Settings, source: str, at: datetime | None) -> dict[str, Any]:
    async with opened(settings, patience=600.0) as wired:
        target = next(target for target in wired.targets if target.name == source)
        copy = await wired.rescue.backups.newest(target, at=at)
        if copy is None:
            raise NotFound(f"target {source} holds no copy of the catalog that opens")
        with telling("bytes loaded") as told:
            rows = await wired.rescue.backups.restore(target, copy, told)
        return {"target": source, "taken": copy.taken.isoformat(), "rows": dict(rows)}
