"""`sealgate keys move` and `settings`: another tier or root for a tenant, and its own cache time and rate."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import USAGE, Config, Json, fail, opened, run, teach
from gateway.cli.keys import Certificate, PrivateKey, Reason, acting
from gateway.cli.keys_state import show
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from keyservice.wire import Rate, TenantKeys

MOVE = teach(
    "Move a tenant to another tier, or a business tenant to another root, while everything goes on. "
    "Its KEKs are wrapped anew; no envelope and no body is touched. --to-own is a fresh root key of the "
    "tenant's own, --to-held the one in the customer's Vault that the key service's settings name so. "
    "Interrupted it can be asked for again.",
    "sealgate keys move TENANT --tier business",
    "sealgate keys move TENANT --to-held acme --reason 'contract 12'",
    "sealgate keys move TENANT --to-own",
)
SETTINGS = teach(
    "Set a business tenant's own cache time and rate; what is not named stays. "
    "--cache-ttl 0 has every use of a key asked of the root: a suspension holds at once, and Vault is asked "
    "for every request.",
    "sealgate keys settings TENANT --cache-ttl 0",
    "sealgate keys settings TENANT --rate 500 --burst 2000",
    "sealgate keys settings TENANT --no-rate",
)


def move(
    tenant: Tenant,
    *,
    tier: Annotated[str | None, typer.Option(help="business, or standard.")] = None,
    to_own: Annotated[bool, typer.Option("--to-own", help="To a new root key of its own.")] = False,
    to_held: Annotated[
        str | None, typer.Option(metavar="NAME", help="To the root in that customer's Vault.")
    ] = None,
    reason: Reason = "move",
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Move a tenant."""
    if tier not in {None, "business", "standard"}:
        fail("--tier is business or standard", USAGE)
    if to_own and to_held is not None:
        fail("a root is one's own or held: give one of --to-own and --to-held", USAGE)
    if tier == "standard" and (to_own or to_held is not None):
        fail("a standard tenant shares the root of all: leave --to-own and --to-held out", USAGE)
    if tier is None and not to_own and to_held is None:
        fail("say where to: --tier, --to-own or --to-held", USAGE)
    settings = acting(config, certificate, private_key)
    moved = run(_move(settings, tenant, tier, to_held, fresh=to_own, reason=reason))
    show(tenant, moved, as_json=as_json)


def change(
    tenant: Tenant,
    *,
    cache_ttl: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds that an opened KEK may be kept.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Keys a second; with --burst.")
    ] = None,
    burst: Annotated[float | None, typer.Option(min=1.0, help="Keys at once after a rest.")] = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="No rate of its own.")] = False,
    reason: Reason = "settings",
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Change a tenant's settings."""
    from keyservice.wire import Rate  # noqa: PLC0415 - help answers at once

    if (rate is None) != (burst is None):
        fail("give --rate and --burst together", USAGE)
    if no_rate and rate is not None:
        fail("--no-rate goes with no --rate", USAGE)
    if cache_ttl is None and rate is None and not no_rate:
        fail("say what to set: --cache-ttl, --rate and --burst, or --no-rate", USAGE)
    settings = acting(config, certificate, private_key)
    wanted = None if rate is None or burst is None else Rate(rate, burst)
    changed = run(_set(settings, tenant, cache_ttl, wanted, unlimited=no_rate, reason=reason))
    show(tenant, changed, as_json=as_json)


async def _move(
    settings: Settings, tenant: str, tier: str | None, held: str | None, *, fresh: bool, reason: str
) -> "TenantKeys":
    async with opened(settings) as wired:
        return await wired.custody.tiers.move(
            tenant, tier=tier, held=held, fresh=fresh, reason=reason
        )


async def _set(
    settings: Settings,
    tenant: str,
    cache_ttl: float | None,
    rate: "Rate | None",
    *,
    unlimited: bool,
    reason: str,
) -> "TenantKeys":
    async with opened(settings) as wired:
        return await wired.custody.control.settings(
            tenant, cache_ttl=cache_ttl, rate=rate, unlimited=unlimited, reason=reason
        )
