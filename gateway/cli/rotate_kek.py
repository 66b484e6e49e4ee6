"""`sealgate rotate kek`: a new KEK for tenants, and every envelope under it."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.bar import bar
from gateway.cli.command import (
    FAILED,
    FINDINGS,
    Config,
    Json,
    opened,
    run,
    show_json,
    show_rows,
    teach,
    time_of,
)
from gateway.cli.keys import Certificate, PrivateKey, acting
from gateway.cli.pace import Envelopes, Parallel, Requests, paced
from gateway.cli.scope import Attachment, Tenants, demand_one, named
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.rotation.keks import Plan, Rotated, Rotation, Wish
    from gateway.wiring.core import Core

NICE = 5  # requests go first, but not so far that whoever holds the catalog's lock gets no turn
SHARE = 0.25  # of the time: it may write to a catalog that takes one writer at a time
HELP = teach(
    "Give tenants a new KEK, and bring every envelope under it: in the catalog first, then on every target. "
    "Bodies are not touched, and reads and writes go on. New uploads use the new KEK at once; at the end it "
    "waits until every cache has forgotten the old one, and looks again. The old KEK stays, until `sealgate "
    "keys retire`. Interrupted, it goes on where it was when it is run again, without another KEK. With "
    "--finish no KEK is made: what is still under older ones is moved, and targets get what they lack. "
    "Workers do the latter by themselves. With --attachment or --before only those envelopes are moved.",
    "sealgate rotate kek --tenant ID",
    "sealgate rotate kek --all --dry-run",
    "sealgate rotate kek --tenant ID --before 2026-01-01",
    "sealgate rotate kek --all --rate 200 --requests 100",
    "sealgate rotate kek --attachment ID/reports/2025.pdf",
    "sealgate rotate kek --tenant ID --tenant OTHER --finish --json",
    codes="Exit codes: 0 nothing that was chosen is under an older KEK, 3 done but something is left (a "
    "target was away, an upload is still under way, an envelope is damaged), 1 it failed, for all tenants or "
    "for some, 2 wrong usage or settings, 130 interrupted: run it again.",
)


@dataclass(slots=True)
class _Asked:
    """What stood on the command line."""

    tenants: Sequence[str]
    everyone: bool
    before: datetime | None
    reference: str | None = field(repr=False)
    fresh: bool


def kek(
    *,
    attachment: Attachment = None,
    tenant: Tenants = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every tenant, and the gateway's own.")
    ] = False,
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Move only what was stored before (ISO 8601)."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make no KEK: move what is under older ones.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is to be done, and change nothing.")
    ] = False,
    rate: Envelopes = None,
    requests: Requests = None,
    parallel: Parallel = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Rotate KEKs."""
    demand_one(attachment, tenant, everything=everything)
    asked = _Asked(tenant or [], everything, time_of("--before", before), None, not finish)
    if attachment is not None:
        owner, asked.reference = named(attachment)
        asked.tenants = [owner]
    settings = paced(
        acting(config, certificate, private_key),
        "rotation",
        envelopes_per_second=rate,
        requests_per_second=requests,
        parallel=parallel,
    )
    os.nice(NICE)
    if dry_run:
        _show_plans(*run(_plan(settings, asked)), as_json=as_json)
        return
    ended = run(_rotate(settings, asked))
    _show(ended, as_json=as_json)
    if any(each.error is not None for each in ended):
        raise typer.Exit(FAILED)
    if not all(each.renewed.complete for each in ended):
        raise typer.Exit(FINDINGS)


async def _rotate(settings: Settings, asked: _Asked) -> "list[Rotated]":
    from gateway.wiring import rotations  # noqa: PLC0415 - help answers at once

    ended: list[Rotated] = []
    async with opened(settings, share=SHARE, late=True) as wired:
        with bar("rotating", things=True) as shown:
            rotation = rotations.rotation(settings, wired, told=shown.advance)
            wish = await _wish(wired, asked)
            if shown.shown:
                shown.total(await _total(wired, rotation, wish, asked))

            def told(rotated: "Rotated") -> None:
                if not (asked.everyone and _gone(rotated)):
                    ended.append(rotated)

            await rotation.keks(_tenants(wired, asked), wish, told)
    return ended


async def _plan(settings: Settings, asked: _Asked) -> "tuple[list[Plan], dict[str, str]]":
    from gateway.wiring import rotations  # noqa: PLC0415 - help answers at once
    from keyservice.wire import KeyServiceError, Shredded  # noqa: PLC0415 - as above

    plans, refused = [], {}
    async with opened(settings, share=SHARE, late=True) as wired:
        rotation, wish = rotations.rotation(settings, wired), await _wish(wired, asked)
        async for tenant in _tenants(wired, asked):
            try:
                plans.append(await rotation.plan(tenant, wish))
            except KeyServiceError as error:
                if not (asked.everyone and isinstance(error, Shredded)):
                    refused[tenant] = f"{error.code}: {error}"
    return plans, refused


async def _wish(wired: "Core", asked: _Asked) -> "Wish":
    from gateway.rotation.keks import Wish  # noqa: PLC0415 - as above
    from gateway.rotation.rewrapping import Choice  # noqa: PLC0415 - help answers at once

    attachment = None
    for tenant in asked.tenants:
        await wired.catalog.tenant(tenant)
        if asked.reference is not None:
            attachment = (await wired.catalog.find(tenant, asked.reference)).attachment.id
    return Wish(Choice(asked.before, attachment), asked.fresh)


async def _tenants(wired: "Core", asked: _Asked) -> AsyncIterator[str]:
    from gateway.rotation.keks import everyone  # noqa: PLC0415 - help answers at once

    if asked.everyone:
        async for tenant in everyone(wired.catalog, wired.keys.control):
            yield tenant
    for tenant in dict.fromkeys(asked.tenants):
        yield tenant


async def _total(wired: "Core", rotation: "Rotation", wish: "Wish", asked: _Asked) -> int:
    """Count what is to be rewrapped, and what is to be written to targets for it."""
    from keyservice.wire import KeyServiceError  # noqa: PLC0415 - help answers at once

    total = 0
    async for tenant in _tenants(wired, asked):
        with suppress(KeyServiceError):  # told when its turn comes
            plan = await rotation.plan(tenant, wish)
            total += plan.versions * (1 + len(wired.targets)) + plan.stale
    return total


def _gone(rotated: "Rotated") -> bool:
    from keyservice.wire import Shredded  # noqa: PLC0415 - help answers at once

    return isinstance(rotated.error, Shredded)


def _code(error: Exception) -> str:
    return getattr(error, "code", type(error).__name__)


def _show(ended: "Sequence[Rotated]", *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "tenants": [
                    {
                        **each.renewed.as_json(),
                        "error": None
                        if each.error is None
                        else {"code": _code(each.error), "detail": str(each.error)},
                    }
                    for each in ended
                ]
            }
        )
    elif ended:
        titles = ["TENANT", "KEK", "REWRAPPED", "PUSHED", "FAILED", "LEFT", "UPLOADS", "STALE"]
        rows = []
        for each in ended:
            counts = each.renewed.counts()
            row = [each.renewed.tenant, each.renewed.current.rpartition("/")[2] or "-"]
            rows.append(row + [str(counts[title.lower()]) for title in titles[2:]])
        show_rows(titles, rows)
    for each in ended:
        if each.error is not None:
            text = f"tenant {each.renewed.tenant}: {_code(each.error)}: {each.error}"
            typer.echo(f"sealgate: {text}", err=True)
        for target, pushed in each.renewed.pushed.items():
            if pushed.away:
                text = f"target {target} did not answer: what it lacks waits for it"
                typer.echo(f"sealgate: tenant {each.renewed.tenant}: {text}", err=True)


def _show_plans(plans: "Sequence[Plan]", refused: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        found = [
            {"tenant": p.tenant, "kek": p.current, "envelopes": p.versions, "stale": p.stale}
            for p in plans
        ]
        show_json({"tenants": found, "refused": refused})
    else:
        show_rows(
            ["TENANT", "KEK", "ENVELOPES", "STALE"],
            [
                [p.tenant, p.current.rpartition("/")[2], str(p.versions), str(p.stale)]
                for p in plans
            ],
        )
    for tenant, why in refused.items():
        typer.echo(f"sealgate: tenant {tenant}: {why}", err=True)
    if refused:
        raise typer.Exit(FAILED)
