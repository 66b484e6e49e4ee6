"""`sealgate trash list`, `undelete`, `purge` and `empty`: what was deleted, and what is to go for good.

What cannot be undone asks twice: for a token with the right to purge, so that access to this machine
alone is not enough, and for the id again, typed.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.attachments.tokens import allow
from gateway.cli.command import (
    FINDINGS,
    TYPED,
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    settings_of,
    show_fields,
    show_json,
    show_rows,
    teach,
    typed_again,
)
from gateway.cli.counter import telling
from gateway.cli.scope import Tenant
from gateway.errors import Forbidden
from gateway.model import Right
from gateway.ports import Trashed
from gateway.settings.config import Settings, secret

_PAGE = 500
_LIST = teach(
    "List what is in a tenant's trash, and until when it can come back. "
    "The first column is the id that `undelete` and `purge` take.",
    "sealgate trash list TENANT",
    "sealgate trash list TENANT --json | jq -r '.trash[].trashed'",
)
_UNDELETE = teach(
    "Bring an attachment back from the trash, with every version and its metadata, as it was.",
    "sealgate trash undelete TENANT TRASHED",
)
_PURGE = teach(
    "Purge one attachment in the trash now, for good. It cannot be read from this moment; a worker "
    "removes its objects. Needs a token with the right to purge, and the id typed again.",
    "sealgate trash purge TENANT TRASHED --token-file purge.token",
    "sealgate trash purge TENANT TRASHED --token-file purge.token --confirm TRASHED",
    codes=TYPED,
)
_EMPTY = teach(
    "Purge what has been in the trash for its time, in every tenant, once. A worker does this by "
    "itself. Time counts only while a gateway or a worker runs, so that a clock which jumps deletes "
    "nothing.",
    "sealgate trash empty",
    codes="Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 some of it waits for a target.",
)

group = typer.Typer(help="List, bring back and purge what was deleted.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="TRASHED", help="The id that `trash list` shows.")]


@group.command("list", help=_LIST)
def list_trash(tenant: Tenant, *, config: Config = None, as_json: Json = False) -> None:
    """List the trash."""
    found = [_fields(item) for item in run(_all(settings_of(config), tenant))]
    if as_json:
        show_json({"trash": found})
    elif found:
        show_rows([*found[0]], [[str(value) for value in item.values()] for item in found])
    else:
        typer.echo("the trash is empty", err=True)


@group.command("undelete", help=_UNDELETE)
def undelete(tenant: Tenant, trashed: Id, *, config: Config = None, as_json: Json = False) -> None:
    """Bring one back."""
    run(_undelete(settings_of(config), tenant, trashed))
    if as_json:
        show_json({"undeleted": trashed})
    else:
        typer.echo(f"{trashed} is back")


@group.command("purge", help=_PURGE)
def purge(
    tenant: Tenant,
    trashed: Id,
    *,
    token_file: Annotated[
        Path | None, typer.Option(help="A token with the right to purge, in a file.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option(help="The id again, for scripts; else it is asked for.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Purge one."""
    settings = settings_of(config)
    if token_file is None:
        fail("name a token with the right to purge: --token-file FILE", USAGE)
    typed_again(trashed, confirm, "purge it for good", nothing="nothing was purged")
    count = run(_purge(settings, tenant, trashed, token_file))
    if as_json:
        show_json({"purged": trashed, "versions": count})
    else:
        typer.echo(f"{trashed} is out of reach; a worker removes its {count} versions")


@group.command("empty", help=_EMPTY)
def empty(*, config: Config = None, as_json: Json = False) -> None:
    """Purge what is due."""
    purged = run(_empty(settings_of(config)))
    if as_json:
        show_json(purged)
    else:
        show_fields({name: str(value) for name, value in purged.items()})
    if purged["waiting"]:
        raise typer.Exit(FINDINGS)


def _fields(item: Trashed) -> dict[str, Any]:
    deleted = item.attachment.deleted
    return {
        "trashed": item.attachment.id,
        "attachment": item.attachment.reference,
        "size": item.version.size,
        "deleted": "" if deleted is None else deleted.isoformat(timespec="seconds"),
        "kept_until": item.due.isoformat(timespec="seconds"),
    }


async def _all(settings: Settings, tenant: str) -> list[Trashed]:
    found: list[Trashed] = []
    async with opened(settings) as wired:
        trash = wired.services.trash
        while page := await trash.page(tenant, found[-1].attachment.id if found else None, _PAGE):
            found += page
    return found


async def _undelete(settings: Settings, tenant: str, trashed: str) -> None:
    async with opened(settings) as wired:
        await wired.services.trash.undelete(tenant, trashed)


async def _purge(settings: Settings, tenant: str, trashed: str, token_file: Path) -> int:
    async with opened(settings) as wired:
        token = await wired.services.tokens.check(secret(token_file) or "")
        try:
            allow(token, tenant, Right.PURGE)
        except Forbidden as error:
            fail(str(error))
        return await wired.services.trash.purge(tenant, trashed)


async def _empty(settings: Settings) -> dict[str, int]:
    async with opened(settings) as wired:
        with telling("purging") as told:
            purged = await wired.purger.run(told)
    return asdict(purged)
