"""`sealgate tenant retention`: how long a tenant's trash and replaced versions are kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gateway.attachments.trash import retained
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
from gateway.model import Retention
from gateway.settings.config import Settings

HELP = teach(
    "Show or set how long a tenant's trash and replaced versions are kept. "
    "The trash is kept for 30 days at least. Replaced versions are kept for ever unless a number or "
    "an age is set; then those beyond both go, 30 days after they were replaced at the earliest. "
    "Under a hold nothing is purged.",
    "sealgate tenant retention TENANT",
    "sealgate tenant retention TENANT --trash-days 90 --keep-versions 10",
    "sealgate tenant retention TENANT --hold-until 2030-01-01",
    "sealgate tenant retention TENANT --no-hold",
)
_NONE = -1


def retention(
    tenant: Tenant,
    *,
    trash_days: Annotated[int | None, typer.Option(help="30 or more.")] = None,
    keep_versions: Annotated[
        int | None, typer.Option(min=_NONE, help="Replaced versions to keep; -1: no such bound.")
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option(min=_NONE, help="Days to keep them; -1: no such bound.")
    ] = None,
    hold_until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day, in UTC.")
    ] = None,
    no_hold: Annotated[bool, typer.Option("--no-hold", help="End a hold.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show or set a tenant's retention."""
    if no_hold and hold_until is not None:
        fail("name one of --hold-until and --no-hold", USAGE)

    def changed(now: Retention) -> Retention:
        if trash_days is not None:
            now = replace(now, trash=timedelta(days=trash_days))
        if keep_versions is not None:
            now = replace(now, versions=None if keep_versions == _NONE else keep_versions)
        if keep_days is not None:
            now = replace(now, age=None if keep_days == _NONE else timedelta(days=keep_days))
        if no_hold or hold_until is not None:
            now = replace(now, hold=hold_until.replace(tzinfo=UTC) if hold_until else None)
        return now

    async def work(settings: Settings) -> Retention:
        async with opened(settings) as wired:
            trash = wired.services.trash
            before = await trash.retention(tenant)
            return before if changed(before) == before else await trash.amend(tenant, changed)

    shown = retained(run(work(settings_of(config))))
    if as_json:
        show_json(shown)
    else:
        show_fields({name: "-" if value is None else str(value) for name, value in shown.items()})
