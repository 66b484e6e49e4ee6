"""`sealgate target list` and `forget`: what the catalog knows, and leave of a target gone for good."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    Config,
    Json,
    opened,
    run,
    settings_of,
    show_json,
    show_rows,
    teach,
    typed_again,
)
from gateway.cli.counter import counter
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.model import Version
    from gateway.ports import Trace
    from gateway.recovery.departure import Forgotten

_SHOWN = 20
_PATIENCE = 600.0
_LIST = teach(
    "Show every target that is configured, or that the catalog still has rows of.",
    "sealgate target list",
    "sealgate target list --json | jq -r '.targets[] | select(.configured | not) | .target'",
)
_FORGET = teach(
    "Forget a target that is gone for good. "
    "Only what the catalog has about it goes: until then every purge waits for it, and no KEK that its "
    "envelopes may be under is retired. Refuses while it is configured, is the primary or is worked on, and "
    "while it may have the last copy of some version, which no configured target holds; --accept-loss goes "
    "on, and such a version may never be read again. What was done is on record: `sealgate runs`. Whatever "
    "the target holds stays there: destroy it if you still can.",
    "sealgate target forget west --dry-run",
    'sealgate target forget west --reason "its data centre burnt down"',
    'sealgate target forget west --reason "sold" --confirm west --json',
    codes="Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage or settings, 3 some of it is still "
    "there: run it again (with --dry-run: versions would be lost).",
)

group = typer.Typer(help="Targets that the catalog knows, configured or not.", no_args_is_help=True)


@group.command("list", help=_LIST)
def list_targets(*, config: Config = None, as_json: Json = False) -> None:
    """List targets."""
    found = run(_known(settings_of(config)))
    if as_json:
        show_json({"targets": [{"target": name, "configured": there} for name, there in found]})
    else:
        show_rows(
            ("target", "configured"), [(name, "yes" if there else "NO") for name, there in found]
        )


@group.command("forget", help=_FORGET)
def forget(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The target's name.")],
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why: it goes on record.")
    ] = "gone for good",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although last copies may be there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is, and forget nothing.")
    ] = False,
    confirm: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Its name again, instead of typing it.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Forget a target."""
    settings = settings_of(config)
    if dry_run or confirm is None:
        trace, last = run(_look(settings, target))
        if dry_run and as_json:
            show_json({**_counted(trace), "last_copies": [_version(each) for each in last]})
        elif not as_json:
            _print(trace, last)
        if dry_run:
            raise typer.Exit(FINDINGS if last else 0)
    typed_again(target, confirm, "forget it for good", nothing="nothing was forgotten")
    done = run(_forget(settings, target, reason, accept_loss=accept_loss))
    if as_json:
        left = done.left.replicas + done.left.stale + done.left.leftovers
        show_json({**_counted(done.gone), "lost": done.lost, "left": left})
    else:
        typer.echo(
            f"{target} is forgotten"
            if done.left.empty
            else f"of {target} there is more: run it again"
        )
    if not done.left.empty:
        raise typer.Exit(FINDINGS)


async def _known(settings: Settings) -> Sequence[tuple[str, bool]]:
    async with opened(settings) as wired:
        return await wired.departure.known()


async def _look(settings: Settings, target: str) -> "tuple[Trace, Sequence[Version]]":
    async with opened(settings, patience=_PATIENCE) as wired:
        return await wired.departure.look(target)


async def _forget(
    settings: Settings, target: str, reason: str, *, accept_loss: bool
) -> "Forgotten":
    async with opened(settings, patience=_PATIENCE) as wired:
        with counter(f"forgetting {target}") as count:
            rows = 0

            def told(step: "Trace") -> None:
                nonlocal rows
                rows += step.replicas + step.stale + step.leftovers
                count(rows)

            return await wired.departure.forget(
                target, reason=reason, accept_loss=accept_loss, told=told
            )


def _counted(trace: "Trace") -> dict[str, Any]:
    return {
        "target": trace.target,
        "replicas": trace.replicas,
        "stale": trace.stale,
        "leftovers": trace.leftovers,
    }


def _version(version: "Version") -> dict[str, str]:
    return {
        "tenant": version.tenant,
        "attachment": version.attachment,
        "version": version.id,
        "created": version.created.isoformat(),
    }


def _print(trace: "Trace", last: "Sequence[Version]") -> None:
    typer.echo(
        f"of {trace.target} the catalog has {trace.replicas} replicas, {trace.stale} envelopes that are to be"
        f" replaced, and {trace.leftovers} blobs that wait to be purged"
    )
    if not last:
        return
    typer.echo(f"\nLAST COPIES: {len(last)} versions that no configured target is known to hold")
    rows = [(each.tenant, each.id, each.created.isoformat()) for each in last[:_SHOWN]]
    show_rows(("tenant", "version", "created"), rows)
    if len(last) > _SHOWN:
        typer.echo("… all of them with --dry-run --json")
