"""`sealgate reap`: removes leftovers of broken uploads now, instead of when the gateway gets to it."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from gateway.cli.command import FAILED, Config, Json, opened, run, settings_of, show_json, teach
from gateway.cli.counter import telling
from gateway.errors import StoreError
from gateway.settings.config import Settings

HELP = teach(
    "Remove what broken uploads left behind, once, and say what it was. A running gateway does this "
    "by itself; it is safe beside one. With --sweep every target is listed too, for bodies and "
    "unfinished uploads that the catalog does not know; only what is old enough goes.",
    "sealgate reap",
    "sealgate reap --sweep --json",
    codes="Exit codes: 0 done, 1 it failed or a target did not answer, 2 wrong usage or settings.",
)


@dataclass(slots=True)
class _Tally:
    """What went, what could not go, and which targets could not be swept."""

    uploads: int = 0
    waiting: int = 0
    parts: int = 0
    orphans: int = 0
    failed: list[str] = field(default_factory=list)


def reap(
    *,
    sweep: Annotated[bool, typer.Option("--sweep", help="List every target, too.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Reap once."""
    done = run(_reap(settings_of(config), sweep=sweep))
    counts = {"uploads": done.uploads, "parts": done.parts, "orphans": done.orphans}
    if as_json:
        show_json({**counts, "waiting": done.waiting, "failed": done.failed})
    else:
        typer.echo(
            f"removed {done.uploads} broken uploads"
            + (f", {done.parts} unfinished parts, {done.orphans} orphans" if sweep else "")
        )
        for name in done.failed:
            typer.echo(f"sealgate: target {name} did not answer; run it again later", err=True)
    if done.waiting:
        why = "a target did not answer or refused; run it again later"
        typer.echo(f"sealgate: {done.waiting} broken uploads wait: {why}", err=True)
    if done.failed or done.waiting:
        raise typer.Exit(FAILED)


async def _reap(settings: Settings, *, sweep: bool) -> _Tally:
    tally = _Tally()
    async with opened(settings) as wired:
        tally.uploads, tally.waiting = await wired.reaper.uploads()
        for target in wired.targets if sweep else ():
            try:
                with telling(f"listing {target.name}") as told:
                    parts, orphans = await wired.reaper.sweep(target, told)
            except StoreError:
                tally.failed.append(target.name)
                continue
            tally.parts += parts
            tally.orphans += orphans
    return tally
