"""`sealgate keys retire`: destroy KEKs that nothing refers to any more."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import (
    FINDINGS,
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    show_json,
    teach,
)
from gateway.cli.counter import telling
from gateway.cli.keys import Certificate, PrivateKey, Reason, acting
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.rotation.retirement import Retired

HELP = teach(
    "Destroy a KEK that was replaced, or all of them, for good. "
    "Refuses while anything refers to it: a version, one in the trash, an envelope on any target, a blob "
    "that a reseal left, an upload under way. Waits until no cache can hand out keys under it. Reads every "
    "envelope of the tenant on every target, too: a catalog that was rolled back or restored does not know "
    "all that is there. With --no-verify it believes the catalog.",
    "sealgate keys retire TENANT --all-old",
    "sealgate keys retire TENANT KEK",
    codes="Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 something refers to one: it stays.",
)


def retire(
    tenant: Tenant,
    kek: Annotated[
        str | None, typer.Argument(metavar="KEK", help="Its id, as `keys status` shows it.")
    ] = None,
    *,
    all_old: Annotated[
        bool, typer.Option("--all-old", help="Every KEK that was replaced.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="Read the envelopes on the targets, or not."),
    ] = True,
    reason: Reason = "retire",
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Retire KEKs."""
    if (kek is None) != all_old:
        fail("name a KEK, or give --all-old", USAGE)
    settings = acting(config, certificate, private_key)
    found = run(_retire(settings, tenant, kek, reason, verify=verify))
    if as_json:
        kept = [{"id": each.id, "blocks": list(each.blocks)} for each in found if each.blocks]
        gone = [each.id for each in found if not each.blocks]
        show_json({"tenant": tenant, "retired": gone, "kept": kept})
    else:
        for each in found:
            typer.echo(
                f"{each.id} "
                + (f"stays: {'; '.join(each.blocks)}" if each.blocks else "is retired")
            )
        if not found:
            typer.echo("no KEK was replaced: there is nothing to retire", err=True)
    if any(each.blocks for each in found):
        raise typer.Exit(FINDINGS)


async def _retire(
    settings: Settings, tenant: str, kek: str | None, reason: str, *, verify: bool
) -> "Sequence[Retired]":
    async with opened(settings) as wired:
        with telling("envelopes read") as told:
            return await wired.custody.retirement.retire(
                tenant,
                kek,
                reason=reason,
                verify=partial(wired.custody.verification.find, told=told) if verify else None,
                waiting=_waiting,
            )


def _waiting(span: timedelta) -> None:
    typer.echo(f"waiting {span.total_seconds():.0f} seconds until no cache knows it", err=True)
