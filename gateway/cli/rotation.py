"""`sealgate tenant rotation`: how often a tenant's keys are rotated."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import (
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    settings_of,
    show_fields,
    show_json,
    teach,
)
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.ports import Rotation
    from gateway.rotation.due import Schedule

HELP = teach(
    "Show or set how often a tenant's keys are rotated. "
    "A worker rotates what is due. Spans are such as 90d or 12h. Unset, the schedule of the tenant's tier in "
    "the settings holds, and comes back with --default. The root of a standard tenant is the one of all.",
    "sealgate tenant rotation TENANT",
    "sealgate tenant rotation TENANT --kek 90d --root 365d",
    "sealgate tenant rotation TENANT --never",
    "sealgate tenant rotation TENANT --default",
)


def rotation(
    tenant: Tenant,
    *,
    kek: Annotated[str | None, typer.Option(help="How old a KEK gets: 90d.")] = None,
    root: Annotated[str | None, typer.Option(help="How old a version of its root gets.")] = None,
    never: Annotated[
        bool, typer.Option("--never", help="Rotate nothing that no other option names.")
    ] = False,
    default: Annotated[bool, typer.Option("--default", help="As the settings say.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show or set a tenant's schedule."""
    from gateway.ports import Rotation  # noqa: PLC0415 - help answers at once

    if default and (never or kek or root):
        fail("--default goes with no other schedule", USAGE)
    settings = settings_of(config)
    rest = timedelta() if never else None
    spans = {"kek": _span("--kek", kek) or rest, "root": _span("--root", root) or rest}
    wanted = {name: span for name, span in spans.items() if span is not None}

    def changed(now: Rotation) -> Rotation:
        return Rotation() if default else replace(now, **wanted)

    _show(run(_agree(settings, tenant, changed)), as_json=as_json)


def _span(option: str, text: str | None) -> timedelta | None:
    from gateway.pacing import spans  # noqa: PLC0415 - as above

    if text is None:
        return None
    try:
        span = spans.parse(text)
    except ValueError as error:
        fail(f"{option}: {error}", USAGE)
    if not span:
        fail(f"{option}: a key is not rotated all the time: --never rotates nothing", USAGE)
    return span


async def _agree(
    settings: Settings, tenant: str, changed: "Callable[[Rotation], Rotation]"
) -> "Schedule":
    async with opened(settings) as wired:
        found, _ = await wired.services.agreements.change(
            tenant, lambda now: replace(now, rotation=changed(now.rotation))
        )
        return await wired.custody.schedules.of(tenant, found.tier)


def _show(schedule: "Schedule", *, as_json: bool) -> None:
    shown: dict[str, Any] = {
        name: {"every_seconds": int(span.total_seconds()), "own": name in schedule.own}
        for name, span in (("kek", schedule.kek), ("root", schedule.root))
    }
    if as_json:
        show_json(shown)
    else:
        show_fields({name: _words(schedule, name) for name in shown})


def _words(schedule: "Schedule", name: str) -> str:
    from gateway.pacing import spans  # noqa: PLC0415 - as above

    span = schedule.kek if name == "kek" else schedule.root
    often = f"every {spans.text(span)}" if span else "never"
    return often if name in schedule.own else f"{often} (default)"
