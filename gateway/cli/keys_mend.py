"""`sealgate keys mend` and `destroy-root`: after a record was written over, and after a move."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import TYPED, Config, Json, opened, run, teach, typed_again
from gateway.cli.keys import Certificate, Confirm, PrivateKey, Reason, acting
from gateway.cli.keys_state import show
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings
from keyservice.wire import Denied

if TYPE_CHECKING:
    from keyservice.wire import TenantKeys

MEND = teach(
    "Bring back a tenant's record after somebody altered it or wrote an older one over it: the answer to "
    "`keys-altered`. The newest record that proves itself is written anew, if it is of the revision that you "
    "expect: `sealgate keys journal` tells the last one.",
    "sealgate keys mend TENANT --revision 7 --reason 'rolled back by mistake'",
)
DESTROY = teach(
    "Destroy a root key that a tenant was moved away from. The first has no name: give ''. What it "
    "wrapped is in no record any more; whoever kept a copy of an older one opens nothing after this. Needs "
    "the tenant's id, typed again.",
    "sealgate keys destroy-root TENANT 0a1b2c3d --reason moved",
    "sealgate keys destroy-root TENANT '' --reason moved --confirm TENANT",
    codes=TYPED,
)


def mend(
    tenant: Tenant,
    *,
    revision: Annotated[int, typer.Option(min=1, help="The newest genuine one.")],
    reason: Reason,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Mend a tenant's record."""
    settings = acting(config, certificate, private_key)
    show(tenant, run(_mend(settings, tenant, revision, reason)), as_json=as_json)


def destroy(
    tenant: Tenant,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which, of those that `keys move` left.")
    ],
    *,
    reason: Reason,
    confirm: Confirm = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Destroy a root key that a tenant was moved away from."""
    settings = acting(config, certificate, private_key)
    typed_again(tenant, confirm, "destroy this root key for good", nothing="nothing was destroyed")
    show(tenant, run(_destroy(settings, tenant, name, reason)), as_json=as_json)


async def _mend(settings: Settings, tenant: str, revision: int, reason: str) -> "TenantKeys":
    async with opened(settings) as wired:
        return await wired.custody.control.mend(tenant, revision, reason=reason)


async def _destroy(settings: Settings, tenant: str, name: str, reason: str) -> "TenantKeys":
    async with opened(settings) as wired:
        control = wired.custody.control
        left = {name}
        with suppress(Denied):  # to look is another right
            left = {root.name for root in (await control.tenant(tenant)).left}
        # Asked for all the same: it is how one that was cut off is finished.
        keys = await control.destroy_root(tenant, name, reason=reason)
        if name not in left:
            typer.echo(f"sealgate: the tenant left no root {name!r}: none was destroyed", err=True)
        return keys
