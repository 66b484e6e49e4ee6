"""`sealgate scrub`: verifies replicas now, instead of when a worker gets to them."""

import asyncio
from dataclasses import dataclass, field
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
    show_json,
    show_rows,
    target_of,
    teach,
)
from gateway.cli.pace import Parallel, Rate, Requests, paced
from gateway.cli.scope import OneTenant, Target
from gateway.errors import first
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.repair.findings import Tally
    from gateway.wiring.core import Core

GLANCE = 0.3  # seconds between two looks at what was done
SHARE = 0.5  # of the time: it may write to the catalog, as a worker may
HELP = teach(
    "Verify what targets hold, against the envelopes and the catalog, without keys. Without options it is "
    "the share of a day: what nobody verified yet, and what waits the longest. Workers do this by "
    "themselves. What is found is recorded, so that repair mends it; nothing is written to a store. A "
    "scrub with --all that was interrupted goes on where it was, once it is run again.",
    "sealgate scrub --target singapore --all",
    "sealgate scrub --target singapore --all --rate 200 --parallel 16",
    "sealgate scrub --orphans --json",
    "sealgate scrub --tenant ID --all",
    "sealgate scrub --target singapore --sample-keys 100",
    codes="Exit codes: 0 everything that was looked at is as it should be, 3 something is not, 1 a target "
    "did not answer or it failed, 2 wrong usage or settings.",
)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What to do on each target."""

    everything: bool
    tenant: str | None
    sample: int
    orphans: bool

    @property
    def share(self) -> bool:
        """Whether the share of a day is meant."""
        return not (self.everything or self.sample or self.orphans)


@dataclass(slots=True)
class _Found:
    """What it came to."""

    tallies: "dict[str, Tally]" = field(default_factory=dict)
    away: list[str] = field(default_factory=list)


def scrub(
    *,
    target: Target = None,
    everything: Annotated[bool, typer.Option("--all", help="Every replica, now.")] = False,
    tenant: OneTenant = None,
    sample_keys: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="Open so many with keys, picked at random."),
    ] = 0,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Compare the listing with the catalog, and read nothing."),
    ] = False,
    rate: Rate = None,
    requests: Requests = None,
    parallel: Parallel = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Scrub once."""
    settings = paced(
        settings_of(config),
        "scrub",
        bytes_per_second=rate,
        requests_per_second=requests,
        parallel=parallel,
    )
    if target is not None:
        target_of(settings, target)
    if orphans and tenant is not None:
        fail("--orphans looks at whole targets: leave out --tenant", USAGE)
    names = [each.name for each in settings.targets] if target is None else [target]
    alone = tenant is not None and not sample_keys and not orphans
    wish = _Wish(everything or alone, tenant, sample_keys, orphans)
    found = run(_scrub(settings, names, wish))
    if as_json:
        tallies = {name: tally.as_json() for name, tally in found.tallies.items()}
        show_json({"targets": tallies, "did_not_answer": found.away})
    else:
        _show(found)
    for name, tally in found.tallies.items():
        if tally.locked:
            why = "the key service had no key for them now"
            typer.echo(f"sealgate: {tally.locked} on {name} were not opened: {why}", err=True)
    for name in found.away:
        typer.echo(f"sealgate: target {name} did not answer", err=True)
    if any(tally.found.total() for tally in found.tallies.values()):
        raise typer.Exit(FINDINGS)
    if found.away or any(tally.unreachable for tally in found.tallies.values()):
        raise typer.Exit(FAILED)


async def _scrub(settings: Settings, names: list[str], wish: _Wish) -> _Found:
    from gateway.repair.findings import Tally, TargetAway  # noqa: PLC0415 - help answers at once

    found = _Found()
    async with opened(settings, share=SHARE) as wired:
        if wish.tenant is not None:
            await wired.catalog.tenant(wish.tenant)
        for name in names:
            tally = found.tallies[name] = Tally()
            try:
                with bar(f"verifying {name}") as shown:
                    await _target(wired, name, wish, tally, shown)
            except ExceptionGroup as group:
                if not isinstance(error := first(group), TargetAway):
                    raise error from None
                found.away.append(name)
    return found


async def _target(wired: "Core", name: str, wish: _Wish, tally: "Tally", shown: Bar) -> None:
    from gateway.duties.resumed import resumed  # noqa: PLC0415 - help answers at once

    if shown.shown and wish.everything:
        shown.total((await wired.replicas.holding(name, tenant=wish.tenant)).bytes)
    async with asyncio.TaskGroup() as tasks:
        glancing = tasks.create_task(_glance(tally, shown))
        if wish.everything or wish.share:
            kind = "scrub all" if wish.everything else "scrub share"
            subject = name if wish.tenant is None else f"{name} {wish.tenant}"
            async with resumed(wired.runs, kind, subject) as ledger:
                if wish.share:
                    await wired.scrub.share(name, ledger, tally)
                else:
                    await wired.scrub.all(name, ledger, tenant=wish.tenant, tally=tally)
        if wish.orphans:
            await wired.inventory.take(name, tally=tally)
        if wish.sample:
            await wired.scrub.sample(name, wish.sample, tenant=wish.tenant, tally=tally)
        glancing.cancel()


async def _glance(tally: "Tally", shown: Bar) -> None:
    told = 0
    while True:
        await asyncio.sleep(GLANCE)
        shown.advance(tally.bytes - told)
        told = tally.bytes


def _show(found: _Found) -> None:
    from gateway.repair.findings import Kind  # noqa: PLC0415 - help answers at once

    kinds = [kind.value for kind in Kind]
    titles = [
        "TARGET",
        "VERIFIED",
        "BYTES",
        "OPENED",
        *(kind.upper() for kind in kinds),
        "UNREACHABLE",
    ]
    show_rows(
        titles,
        [
            [
                name,
                str(tally.verified),
                str(tally.bytes),
                str(tally.opened),
                *(str(tally.found[kind]) for kind in kinds),
                str(tally.unreachable),
            ]
            for name, tally in found.tallies.items()
        ],
    )
