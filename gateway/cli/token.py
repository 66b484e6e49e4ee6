"""`sealgate token create`, `list` and `revoke`: what applications show to be let in.

A token's text appears once, on standard output, when it is made. No command takes it as an argument,
where every process of the machine could read it.
"""

import re
from datetime import timedelta
from typing import Annotated

import typer

from gateway.attachments.tokens import Grant, shown
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
    show_rows,
    teach,
)
from gateway.model import Right, Token
from gateway.settings.config import Settings

_PUBLIC = re.compile(r"[0-9a-f]{16}")
_CREATE = teach(
    "Create a token. Its text is printed this once: only a hash of it is kept.",
    "sealgate token create --tenant ID --right read --right write",
    "TOKEN=$(sealgate token create --tenant ID --text)",
    "sealgate token create --all-tenants --right admin --days 1 --text > admin.token",
)
_LIST = teach(
    "List the tokens of one tenant, or those that are good for all. Never their text.",
    "sealgate token list --tenant ID",
    "sealgate token list --all-tenants --json",
)
_REVOKE = teach(
    "Revoke a token by its public id, which `list` shows. It is refused from the next request on.",
    "sealgate token revoke 0123456789abcdef",
)

group = typer.Typer(help="Create, list and revoke tokens.", no_args_is_help=True)
OfTenant = Annotated[
    str | None, typer.Option("--tenant", "-t", metavar="ID", help="The tenant it is good for.")
]
OfAll = Annotated[
    bool, typer.Option("--all-tenants", help="Good for every tenant: for administration.")
]


def _row(token: Token) -> dict[str, str]:
    return {
        "token": token.id,
        "tenant": token.tenant or "all",
        "rights": ",".join(sorted(right.value for right in token.rights)),
        "expires": token.expires.isoformat(timespec="seconds") if token.expires else "never",
    }


@group.command("create", help=_CREATE)
def create(
    *,
    tenant: OfTenant = None,
    all_tenants: OfAll = False,
    right: Annotated[
        list[Right] | None,
        typer.Option("--right", "-r", help="May be repeated. Without any: read and write."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 90,
    text: Annotated[
        bool, typer.Option("--text", help="Print the text alone, for scripts.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Create a token."""
    scope = _scope(tenant, all_tenants=all_tenants)
    rights = frozenset(right or (Right.READ, Right.WRITE))
    grant = run(_create(settings_of(config), scope, rights, timedelta(days=days)))
    if as_json:
        show_json({**shown(grant.token), "text": grant.text})
    elif text:
        typer.echo(grant.text)
    else:
        show_fields({**_row(grant.token), "text": grant.text})
        typer.echo("keep the text now: it is not shown again", err=True)


@group.command("list", help=_LIST)
def list_tokens(
    *,
    tenant: OfTenant = None,
    all_tenants: OfAll = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List tokens."""
    scope = _scope(tenant, all_tenants=all_tenants)
    found = run(_list(settings_of(config), scope))
    if as_json:
        show_json({"tokens": [shown(token) for token in found]})
    elif found:
        show_rows([*_row(found[0])], [[*_row(token).values()] for token in found])
    else:
        typer.echo("no tokens yet: `sealgate token create` makes one", err=True)


@group.command("revoke", help=_REVOKE)
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="The public id: 16 hex characters.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Revoke a token."""
    if not _PUBLIC.fullmatch(token):
        # It may be the secret itself, so it is not repeated.
        fail("name the token by its public id, the 16 characters behind sgt_", USAGE)
    run(_revoke(settings_of(config), token))
    if as_json:
        show_json({"revoked": token})
    else:
        typer.echo(f"token {token} is revoked")


def _scope(tenant: str | None, *, all_tenants: bool) -> str | None:
    if (tenant is None) != all_tenants:
        fail("name one of --tenant ID and --all-tenants", USAGE)
    return tenant


async def _create(
    settings: Settings, tenant: str | None, rights: frozenset[Right], lifetime: timedelta
) -> Grant:
    async with opened(settings) as wired:
        return await wired.services.tokens.create(tenant, rights, lifetime=lifetime)


async def _list(settings: Settings, tenant: str | None) -> list[Token]:
    async with opened(settings) as wired:
        if tenant is not None:
            await wired.services.tenants.get(tenant)
        return list(await wired.services.tokens.of(tenant))


async def _revoke(settings: Settings, token: str) -> None:
    async with opened(settings) as wired:
        found = await wired.catalog.token(token)
        await wired.services.tokens.revoke(token, found.tenant)
