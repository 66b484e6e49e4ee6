"""`sealgate failover status`, `promote` and `demote`: which target is the primary, and another one."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

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
from gateway.model import Version
from gateway.ports import Lag
from gateway.settings.config import Settings
from gateway.targets.failover import Failover, Outlook

if TYPE_CHECKING:
    from gateway.wiring.core import Core

_GLANCE = 0.5  # seconds between two looks at what was done
_SHOWN = 20
_CODES = "Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage or settings, 3 versions are at risk."
_STATUS = teach(
    "Show which target is the primary, which targets answer, and how far each is behind. Versions that "
    "only targets which do not answer are known to hold are at risk, and are named.",
    "sealgate failover status",
    "sealgate failover status --json | jq -r '.at_risk[].version'",
    codes=_CODES,
)
_PROMOTE = teach(
    "Make another target the primary, because the primary is lost. Gateways follow within "
    "failover.refresh seconds; an upload that was begun under the old primary is judged anew before it "
    "is acknowledged. Shows what is at risk first, and refuses to go on with any of it unless "
    "--accept-loss is given.",
    "sealgate failover promote singapore",
    "sealgate failover promote singapore --yes --json",
    codes=_CODES,
)
_DEMOTE = teach(
    "Go back to the configured primary, once it answers and holds everything. Nothing is lost by it. "
    "With --wait it copies what the primary missed, beside the workers, and waits for it.",
    "sealgate failover demote",
    "sealgate failover demote --wait --timeout 3600 --yes",
    codes=_CODES,
)

group = typer.Typer(help="Make another target the primary, and go back.", no_args_is_help=True)
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@group.command("status", help=_STATUS)
def status(*, config: Config = None, as_json: Json = False) -> None:
    """Show what holds now."""
    _show(run(_outlook(settings_of(config))), as_json=as_json)


@group.command("promote", help=_PROMOTE)
def promote(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The target's name.")],
    *,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although versions are at risk.")
    ] = False,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a target the primary."""
    settings = settings_of(config)
    target_of(settings, target)
    if not yes:
        before = run(_outlook(settings))
        if not as_json:
            _print(before)
        _confirm(target)
    _show(run(_promote(settings, target, accept_loss=accept_loss)), as_json=as_json)


@group.command("demote", help=_DEMOTE)
def demote(
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has caught up.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait at most; 0: for ever.")
    ] = 0.0,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Go back to the configured primary."""
    settings = settings_of(config)
    if not yes:
        _confirm(next(each.name for each in settings.targets if each.role == "primary"))
    _show(run(_demote(settings, wait=wait, within=timeout)), as_json=as_json)


def _confirm(name: str) -> None:
    try:
        typed = typer.prompt(f"Type {name} to make it the primary", err=True)
    except typer.Abort:
        fail("nothing was confirmed: type the target's name, or give --yes", USAGE)
    if typed.strip() != name:
        fail(f"that is not {name}: nothing was changed", USAGE)


async def _outlook(settings: Settings) -> Outlook:
    async with opened(settings) as wired:
        return await wired.failover.outlook()


async def _promote(settings: Settings, target: str, *, accept_loss: bool) -> Outlook:
    async with opened(settings) as wired:
        return await wired.failover.promote(target, accept_loss=accept_loss)


async def _demote(settings: Settings, *, wait: bool, within: float) -> Outlook:
    async with opened(settings) as wired:
        if wait:
            await _catch_up(wired, within)
        return await wired.failover.demote()


async def _catch_up(wired: "Core", within: float) -> None:
    """Copy what the configured primary misses, beside the workers, until nothing is left or time is up."""
    from gateway.repair.repairer import Tally  # noqa: PLC0415 - help answers at once

    name, tally, begun = wired.failover.configured, Tally(), time.monotonic()

    async def glance(shown: Bar) -> None:
        told = 0
        while True:
            await asyncio.sleep(_GLANCE)
            shown.advance(tally.bytes - told)
            told = tally.bytes

    with bar(f"catching up {name}") as shown:
        while (lag := await _behind(wired.failover)) is None or lag.objects:
            if within and time.monotonic() - begun > within:
                fail(f"{name} has not caught up within {within:g} seconds")
            if lag is not None:
                shown.total(tally.bytes + lag.bytes)
                async with asyncio.TaskGroup() as tasks:
                    glancing = tasks.create_task(glance(shown))
                    await wired.repairer.adopt(name, tally)
                    await wired.repairer.repair(name, tally=tally)
                    glancing.cancel()
            await asyncio.sleep(_GLANCE)


async def _behind(failover: Failover) -> Lag | None:
    """Return how far the configured primary is behind; None while it does not answer."""
    standing = (await failover.outlook()).of(failover.configured)
    return standing.lag if standing.answers else None


def _show(outlook: Outlook, *, as_json: bool) -> None:
    if as_json:
        show_json(_fields(outlook))
    else:
        _print(outlook)
    if outlook.at_risk:
        raise typer.Exit(FINDINGS)


def _fields(outlook: Outlook) -> dict[str, Any]:
    placement = outlook.placement
    return {
        "epoch": placement.epoch,
        "primary": outlook.primary,
        "since": None if placement.since is None else placement.since.isoformat(),
        "targets": [
            {
                "target": each.target.name,
                "role": each.target.role.value,
                "answers": each.answers,
                "missing": each.lag.objects,
                "missing_bytes": each.lag.bytes,
                "oldest": None if each.lag.oldest is None else each.lag.oldest.isoformat(),
            }
            for each in outlook.standings
        ],
        "at_risk": [_version(each) for each in outlook.at_risk],
    }


def _version(version: Version) -> dict[str, Any]:
    return {
        "tenant": version.tenant,
        "attachment": version.attachment,
        "version": version.id,
        "size": version.size,
        "created": version.created.isoformat(),
    }


def _print(outlook: Outlook) -> None:
    rows: list[Sequence[str]] = [
        (
            each.target.name,
            each.target.role.value,
            "yes" if each.answers else "NO",
            str(each.lag.objects),
            str(each.lag.bytes),
        )
        for each in outlook.standings
    ]
    typer.echo(f"primary {outlook.primary or '(none)'}, epoch {outlook.placement.epoch}")
    show_rows(("target", "role", "answers", "missing", "bytes"), rows)
    if not outlook.at_risk:
        return
    typer.echo(f"\nAT RISK: {len(outlook.at_risk)} versions that no target which answers holds")
    shown = [
        (each.tenant, each.id, str(each.size), each.created.isoformat())
        for each in outlook.at_risk[:_SHOWN]
    ]
    show_rows(("tenant", "version", "size", "created"), shown)
    if len(outlook.at_risk) > _SHOWN:
        typer.echo("… all of them with --json")
