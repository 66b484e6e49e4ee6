"""`sealgate keys suspend` and `resume`: stop all use of a tenant's keys, and let it go on."""

from typing import TYPE_CHECKING

from gateway.cli.command import Config, Json, opened, run, show_fields, show_json, teach
from gateway.cli.keys import Certificate, PrivateKey, Reason, acting
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from keyservice.wire import TenantKeys

SUSPEND = teach(
    "Stop all use of a tenant's keys: nothing is read, stored or listed until `resume`. "
    "It holds within the tenant's cache time, everywhere; a download that has begun ends by itself. Nothing "
    "is lost. Works while the root key is away.",
    "sealgate keys suspend TENANT --reason 'case 4711'",
    "sealgate keys suspend TENANT --reason leak --certificate admin.crt --private-key admin.key",
)
RESUME = teach(
    "End a suspension. The key service first proves that nobody altered the tenant's keys meanwhile.",
    "sealgate keys resume TENANT --reason 'case 4711 closed'",
)


def suspend(
    tenant: Tenant,
    *,
    reason: Reason,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Suspend a tenant."""
    settings = acting(config, certificate, private_key)
    show(tenant, run(_change(settings, tenant, reason, to="suspended")), as_json=as_json)


def resume(
    tenant: Tenant,
    *,
    reason: Reason,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Resume a tenant."""
    settings = acting(config, certificate, private_key)
    show(tenant, run(_change(settings, tenant, reason, to="active")), as_json=as_json)


async def _change(settings: Settings, tenant: str, reason: str, *, to: str) -> "TenantKeys":
    async with opened(settings) as wired:
        control = wired.custody.control
        change = control.suspend if to == "suspended" else control.resume
        return await change(tenant, reason=reason)


def show(tenant: str, keys: "TenantKeys", *, as_json: bool) -> None:
    """Print how a tenant's keys are kept now."""
    rate = keys.rate
    if as_json:
        show_json(
            {
                "tenant": tenant,
                "state": keys.state,
                "tier": keys.tier,
                "root": keys.root.custody,
                "left": [root.name for root in keys.left],
                "cache_seconds": keys.cache_ttl,
                "rate": rate and {"per_second": rate.per_second, "burst": rate.burst},
                "revision": keys.revision,
            }
        )
        return
    show_fields(
        {
            "tenant": tenant,
            "state": keys.state,
            "tier": keys.tier,
            "root": keys.root.custody,
            "left": ", ".join(root.name or "''" for root in keys.left) or "none",
            "holds": f"everywhere within {keys.cache_ttl:g} seconds",
        }
        | (
            {}
            if rate is None
            else {"rate": f"{rate.per_second:g} a second, {rate.burst:g} at once"}
        )
    )
