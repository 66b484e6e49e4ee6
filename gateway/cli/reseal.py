"""`sealgate rotate dek`: seals contents again, under data keys that are made now."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.bar import Bar, bar
from gateway.cli.command import (
    FAILED,
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
    teach,
    time_of,
)
from gateway.cli.rotate_kek import NICE
from gateway.cli.scope import Attachment, Tenants, Version, demand_one, named
from gateway.model import now
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.rotation.reseals import Reseals, Scope, Tally
    from gateway.wiring.core import Core

MiB = 1024 * 1024
KIND = "rotate dek"
DRAIN = 30.0  # seconds for removing what was written in vain
GOES_ON = "goes on: data keys that were made before {} are old (--fresh begins anew)"
SHOWN = 10  # failures that are named on the screen; --json has more
HELP = teach(
    "Give contents new data keys: each is read, opened, sealed again under a key made now, read back and "
    "compared, and only then switched to. Reads and writes go on meanwhile, and nothing that users see "
    "changes. What was there before is purged after the tenant's trash time. It is safe beside others that "
    "do the same. Killed or interrupted, or where something failed, the same command goes on: what has a "
    "new key already is left alone.",
    "sealgate rotate dek --all --before 2026-01-01 --dry-run",
    "sealgate rotate dek --tenant ID --rate 50",
    "sealgate rotate dek --tenant ID --tenant OTHER --json",
    "sealgate rotate dek --attachment ID/REFERENCE",
    codes="Exit codes: 0 all of it is done, 3 done but something failed or a tenant was left out, 1 it could "
    "not run or go on, or every tenant was left out, 2 wrong usage or settings, 130 interrupted: run it "
    "again.",
)


def dek(
    *,
    attachment: Attachment = None,
    version: Version = None,
    tenant: Tenants = None,
    everything: Annotated[bool, typer.Option("--all", help="Every tenant.")] = False,
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only data keys made before this time (ISO 8601)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, whatever an earlier run left to do.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Versions at a time.")] = 4,
    rate: Annotated[
        float,
        typer.Option(min=0, help="MiB a second to read at most, each byte twice; 0 is no limit."),
    ] = 0.0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Give contents new data keys."""
    demand_one(attachment, tenant, everything=everything)
    if version is not None and attachment is None:
        fail("--version needs --attachment", USAGE)
    of = None if attachment is None else named(attachment)
    limit = time_of("--before", before)
    settings = settings_of(config)

    from gateway.rotation.reseals import Tally  # noqa: PLC0415 - help answers at once

    tally, began = Tally(), time.monotonic()
    wish = _Wish(of, version, tuple(tenant or ()), limit, dry_run, fresh)
    run(_rotate(settings, wish, tally, parallel=parallel, rate=rate * MiB))
    _show(tally, time.monotonic() - began, dry_run=dry_run, as_json=as_json)
    for refused, reason in tally.refused.items():
        typer.echo(f"sealgate: tenant {refused} is left as it is: {reason}", err=True)
    for failed, reason in list(tally.failures.items())[:SHOWN]:
        typer.echo(f"sealgate: version {failed} was not resealed: {reason}", err=True)
    settled = tally.resealed + tally.recent + tally.gone + tally.overtaken + tally.failed
    if tally.refused and not settled:
        raise typer.Exit(FAILED)
    if tally.failed or tally.refused:
        raise typer.Exit(FINDINGS)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for."""

    attachment: tuple[str, str] | None = field(repr=False)  # tenant and reference
    version: str | None
    tenants: tuple[str, ...]
    before: datetime | None
    dry_run: bool
    fresh: bool


async def _rotate(
    settings: Settings, wish: _Wish, tally: "Tally", *, parallel: int, rate: float
) -> None:
    from gateway.pacing.background import Background  # noqa: PLC0415 - help answers at once
    from gateway.pacing.rate import Rate  # noqa: PLC0415 - as above
    from gateway.wiring.rotations import reseals  # noqa: PLC0415 - as above

    os.nice(NICE)
    async with opened(settings) as wired, Background(drain=DRAIN) as background:
        await wired.placing.refresh()
        work = reseals(settings, wired, background, parallel=parallel, rate=Rate(rate))
        for scope in await _scopes(wired, wish):
            await _one(wired, work, scope, wish, tally)


async def _scopes(wired: "Core", wish: _Wish) -> "Sequence[Scope]":
    """Return what to go through, one after another. Raises NotFound for what is not there."""
    from gateway.rotation.reseals import Scope  # noqa: PLC0415 - help answers at once

    if wish.attachment is not None:
        tenant, reference = wish.attachment
        found = await wired.catalog.find(tenant, reference, wish.version)
        return [Scope(tenant, found.attachment.id, wish.version)]
    if not wish.tenants:
        return [Scope()]
    return [Scope((await wired.catalog.tenant(each)).id) for each in dict.fromkeys(wish.tenants)]


async def _one(wired: "Core", work: "Reseals", scope: "Scope", wish: _Wish, tally: "Tally") -> None:
    from gateway.duties.resumed import resumed  # noqa: PLC0415 - as above
    from gateway.rotation.reseals import Tally, Unfinished, begun  # noqa: PLC0415 - help answers at once

    mine, before = Tally(), wish.before or now()
    if wish.dry_run:
        await work.look(scope, before=before, tally=mine)
        tally.add(mine)
        return
    limit = f"before {wish.before.isoformat()}" if wish.before else ""
    subject = f"{scope.subject} {limit}".strip()
    with bar("resealing") as shown:
        await _total(wired, work, scope, shown)
        with contextlib.suppress(Unfinished):
            async with resumed(wired.runs, KIND, subject) as ledger:
                if wish.fresh:
                    await ledger.save("", {})
                elif since := begun(ledger.run):
                    typer.echo(f"sealgate: {GOES_ON.format(since.isoformat())}", err=True)
                await work.run(scope, ledger, before=before, tally=mine, told=shown.advance)
    tally.add(mine)


async def _total(wired: "Core", work: "Reseals", scope: "Scope", shown: Bar) -> None:
    """Tell a bar that somebody looks at how much it will be."""
    from gateway.rotation.reseals import Tally  # noqa: PLC0415 - help answers at once

    if not shown.shown:
        return
    if scope.attachment is None:
        holding = await wired.replicas.holding(wired.targets[0].name, tenant=scope.tenant)
        shown.total(holding.bytes)
        return
    all_of_it = Tally()
    await work.look(scope, before=now(), tally=all_of_it)
    shown.total(all_of_it.seen_bytes)


def _show(tally: "Tally", seconds: float, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        show_json({"dry_run": dry_run, **tally.as_json(), "seconds": round(seconds, 3)})
        return
    done = "would be resealed" if dry_run else "resealed"
    fields = {
        done: f"{tally.resealed} versions, {tally.bytes} bytes",
        "new enough": str(tally.recent),
    }
    if not dry_run:
        fields |= {
            "gone meanwhile": str(tally.gone),
            "resealed by others": str(tally.overtaken),
            "left as they are": str(tally.left),
            "failed": str(tally.failed),
            "took": f"{seconds:.1f} s",
        }
    show_fields(fields)
