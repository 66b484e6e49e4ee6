"""`sealgate tenant create`, `list`, `show`, `quorum`, and more in files beside: customers, with keys each."""

from typing import Annotated, Any

import typer

from gateway.attachments.tenants import shown
from gateway.cli import retention, rotation, scope
from gateway.cli.command import (
    Config,
    Json,
    opened,
    run,
    settings_of,
    show_fields,
    show_json,
    show_rows,
    teach,
)
from gateway.model import Tenant
from gateway.settings.config import Settings

_PAGE = 500
_CREATE = teach(
    "Create a tenant: its first key in the key service, then its row in the catalog. "
    "The id is random and is what its path and its tokens name.",
    "sealgate tenant create",
    "TENANT=$(sealgate tenant create --tier business --text)",
)
_LIST = teach(
    "List every tenant, in order of id.",
    "sealgate tenant list",
    "sealgate tenant list --json | jq -r '.tenants[].tenant'",
)
_SHOW = teach("Show one tenant and how many tokens are good for it.", "sealgate tenant show TENANT")

_QUORUM = teach(
    "Set which targets must hold a tenant's uploads before they are acknowledged. A policy is primary, "
    "primary+N, majority, all or regions:N, or several of them with commas between; default is the "
    "configured one. Gateways follow within seconds.",
    "sealgate tenant quorum TENANT primary+1,regions:2",
    "sealgate tenant quorum TENANT default",
)

group = typer.Typer(
    help="Create and list tenants, and set what holds for each.", no_args_is_help=True
)


def _with_quorum(tenant: Tenant, settings: Settings) -> dict[str, str]:
    own = tenant.quorum
    return {**shown(tenant), "quorum": f"{settings.required} (default)" if own is None else own}


@group.command("create", help=_CREATE)
def create(
    *,
    tier: Annotated[
        str, typer.Option(help="standard, or business: a root key of its own.")
    ] = "standard",
    text: Annotated[bool, typer.Option("--text", help="Print the id alone, for scripts.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Create a tenant."""
    tenant = run(_create(settings_of(config), tier))
    if as_json:
        show_json(shown(tenant))
    elif text:
        typer.echo(tenant.id)
    else:
        show_fields(shown(tenant))


@group.command("list", help=_LIST)
def list_tenants(*, config: Config = None, as_json: Json = False) -> None:
    """List tenants."""
    tenants = run(_all(settings_of(config)))
    if as_json:
        show_json({"tenants": [shown(tenant) for tenant in tenants]})
    elif tenants:
        show_rows(("tenant", "tier", "created"), [[*shown(t).values()] for t in tenants])
    else:
        typer.echo("no tenants yet: `sealgate tenant create` makes one", err=True)


@group.command("show", help=_SHOW)
def show(tenant: scope.Tenant, *, config: Config = None, as_json: Json = False) -> None:
    """Show a tenant."""
    shown = run(_one(settings_of(config), tenant))
    if as_json:
        show_json(shown)
    else:
        show_fields({name: str(value) for name, value in shown.items()})


@group.command("quorum", help=_QUORUM)
def quorum(
    tenant: scope.Tenant,
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="A policy, or default.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Set a tenant's quorum."""
    settings = settings_of(config)
    changed = run(_set_quorum(settings, tenant, None if policy == "default" else policy))
    shown = _with_quorum(changed, settings)
    if as_json:
        show_json(shown)
    else:
        show_fields(shown)


group.command("retention", help=retention.HELP)(retention.retention)
group.command("rotation", help=rotation.HELP)(rotation.rotation)


async def _set_quorum(settings: Settings, tenant: str, policy: str | None) -> Tenant:
    async with opened(settings) as wired:
        return await wired.services.tenants.set_quorum(tenant, policy)


async def _create(settings: Settings, tier: str) -> Tenant:
    async with opened(settings) as wired:
        return await wired.services.tenants.create(tier=tier)


async def _all(settings: Settings) -> list[Tenant]:
    found: list[Tenant] = []
    async with opened(settings) as wired:
        while page := await wired.services.tenants.page(found[-1].id if found else None, _PAGE):
            found += page
    return found


async def _one(settings: Settings, tenant: str) -> dict[str, Any]:
    async with opened(settings) as wired:
        found = await wired.services.tenants.get(tenant)
        return {
            **_with_quorum(found, settings),
            "tokens": len(await wired.services.tokens.of(tenant)),
        }
