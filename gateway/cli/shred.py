"""`sealgate keys shred`: the end of a tenant, ordered, undone, approved, carried out, and proven.

What cannot be undone asks for the tenant's id again, typed. Who may do what is the key service's to say.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import (
    TYPED,
    Config,
    Json,
    fail,
    opened,
    run,
    show_fields,
    show_json,
    teach,
    typed_again,
)
from gateway.cli.keys import Certificate, Confirm, PrivateKey, Reason, acting
from gateway.cli.scope import Tenant
from gateway.errors import NotFound
from gateway.model import moment
from gateway.ports import Shreds
from gateway.settings.config import Settings
from keyservice.wire import SignedReceipt, TenantKeys

if TYPE_CHECKING:
    from gateway.wiring.core import Core

_NOTHING = "nothing was done"
_AS = "--certificate ada.crt --private-key ada.key"
_ORDER = teach(
    "Order the destruction of a tenant's keys. From then on nobody reads or stores anything of the tenant; "
    "when the time is up a worker carries the order out, and all that it has is gone, in every copy "
    "and every backup. Until then `undo` makes it as it was. Needs the tenant's id, typed again.",
    "sealgate keys shred order TENANT --reason 'account closed, ticket 4711'",
    f"sealgate keys shred order TENANT --reason closed --days 60 --confirm TENANT {_AS}",
    codes=TYPED,
)
_UNDO = teach(
    "Undo an order: the tenant is what it was before. Possible until its destruction has begun, "
    "which a worker does when the order's time is up.",
    "sealgate keys shred undo TENANT --reason 'ordered for the wrong tenant'",
)
_APPROVE = teach(
    "Approve an order, so that it can be carried out at once. Only for a second administrator: who gave "
    "the order is refused, whatever the rights. Needs the tenant's id, typed again.",
    f"sealgate keys shred approve TENANT --reason 'seen with the customer' {_AS}",
    codes=TYPED,
)
_EXECUTE = teach(
    "Destroy a tenant's keys for good, once the order is due or approved. Prints a signed receipt, and "
    "keeps it in FILE. It may be repeated: what was cut off is finished. A worker does this by itself "
    "when the time is up. Needs the tenant's id, typed again.",
    "sealgate keys shred execute TENANT --reason 'as approved' --receipt acme.receipt.json",
    "sealgate keys shred execute TENANT --reason 'as approved' --confirm TENANT --json",
    codes=TYPED,
)
_STATUS = teach(
    "Show how a tenant stands: whether its keys are to be destroyed, since when, on whose order, and when.",
    "sealgate keys shred status TENANT",
)
_RECEIPT = teach(
    "Print the signed receipt of a tenant whose keys are destroyed. "
    "`sealgate report verify FILE --public-key KEY` verifies it, with the key that "
    "`sealgate keys ledger show` shows.",
    "sealgate keys shred receipt TENANT --receipt acme.receipt.json",
)

group = typer.Typer(help="Destroy a tenant's keys, for good.", no_args_is_help=True)
File = Annotated[
    Path | None, typer.Option("--receipt", help="Keep the receipt in this file.", dir_okay=False)
]


@group.command("order", help=_ORDER)
def order(
    tenant: Tenant,
    *,
    reason: Reason,
    days: Annotated[
        int | None, typer.Option(min=0, help="How long it waits; else as the key service is set.")
    ] = None,
    confirm: Confirm = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Order it."""
    settings = acting(config, certificate, private_key)
    typed_again(tenant, confirm, "order the destruction of its keys", nothing=_NOTHING)
    keys = run(
        _change(
            settings,
            tenant,
            lambda wired: wired.keys.shreds.order_shred(tenant, reason=reason, days=days),
            unless_held=True,
        )
    )
    _show(tenant, keys, as_json=as_json)


@group.command("undo", help=_UNDO)
def undo(
    tenant: Tenant,
    *,
    reason: Reason,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Undo it."""
    settings = acting(config, certificate, private_key)
    keys = run(
        _change(settings, tenant, lambda wired: wired.keys.shreds.undo_shred(tenant, reason=reason))
    )
    _show(tenant, keys, as_json=as_json)


@group.command("approve", help=_APPROVE)
def approve(
    tenant: Tenant,
    *,
    reason: Reason,
    confirm: Confirm = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Approve it."""
    settings = acting(config, certificate, private_key)
    typed_again(tenant, confirm, "let its keys be destroyed at once", nothing=_NOTHING)
    keys = run(
        _change(
            settings,
            tenant,
            lambda wired: wired.keys.shreds.approve_shred(tenant, reason=reason),
            unless_held=True,
        )
    )
    _show(tenant, keys, as_json=as_json)


@group.command("execute", help=_EXECUTE)
def execute(
    tenant: Tenant,
    *,
    reason: Reason,
    confirm: Confirm = None,
    file: File = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Carry it out."""
    settings = acting(config, certificate, private_key)
    typed_again(tenant, confirm, "destroy its keys for good", nothing=_NOTHING)
    _show_receipt(run(_execute(settings, tenant, reason)), file, as_json=as_json)


@group.command("status", help=_STATUS)
def status(
    tenant: Tenant,
    *,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show how it stands."""
    keys = run(_status(acting(config, certificate, private_key), tenant))
    _show(tenant, keys, as_json=as_json)


@group.command("receipt", help=_RECEIPT)
def receipt(
    tenant: Tenant,
    *,
    file: File = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print the receipt."""
    signed = run(_receipt(acting(config, certificate, private_key), tenant))
    _show_receipt(signed, file, as_json=as_json)


def _show(tenant: str, keys: TenantKeys, *, as_json: bool) -> None:
    shown: dict[str, Any] = {"tenant": tenant, "state": keys.state}
    if keys.order is not None:
        told = keys.order
        shown |= {
            "ordered": _moment(told.ordered),
            "ordered_by": told.by,
            "reason": told.reason,
            "due": _moment(told.due),
            "approved_by": told.approved,
            "began": _moment(told.began),
            "ended": _moment(told.ended),
        }
    if as_json:
        show_json(shown)
    else:
        show_fields({name.replace("_", " "): value for name, value in shown.items() if value})


def _show_receipt(signed: SignedReceipt, file: Path | None, *, as_json: bool) -> None:
    if file is not None:
        from gateway.recovery.report import put  # noqa: PLC0415 - help answers at once

        try:
            put(file, json.dumps(signed.signed).encode() + b"\n")
        except OSError as error:
            fail(f"cannot write {file}: {error.strerror}; `keys shred receipt` shows it again")
    if as_json:
        show_json(signed.signed)
        return
    told = signed.receipt
    place = told["ledger"]
    show_fields(
        {
            "tenant": told["tenant"],
            "destroyed": told["destroyed"],
            "keys": ", ".join(told["keks"]),
            "root key": told["root_key"],
            "ordered": f"{told['ordered']} by {told['ordered_by']}: {told['reason']}",
            "approved by": told["approved_by"] or "nobody: its time was up",
            "ledger": f"{place['name']} entry {place['index']}, {place['hash']}",
            "signed by": signed.signed["signature"]["public_key"],
        }
    )


def _moment(microseconds_: int) -> str:
    return moment(microseconds_).isoformat(timespec="seconds") if microseconds_ else ""


async def _demand_free(shreds: Shreds, tenant: str) -> None:
    """End while the tenant is under a hold; one may have come after the order."""
    if (hold := await shreds.held(tenant)) is not None:
        fail(f"the tenant is under a hold until {hold.isoformat()}: end that first")


async def _change(
    settings: Settings,
    tenant: str,
    change: "Callable[[Core], Awaitable[TenantKeys]]",
    *,
    unless_held: bool = False,
) -> TenantKeys:
    """Change a tenant's order, and let the catalog know of it."""
    async with opened(settings) as wired:
        if unless_held:
            await _demand_free(wired.shreds, tenant)
        keys = await change(wired)
        await wired.orders.learn(tenant)
        return keys


async def _execute(settings: Settings, tenant: str, reason: str) -> SignedReceipt:
    async with opened(settings) as wired:
        with suppress(
            NotFound
        ):  # of a tenant that the catalog does not have there is nothing to hold
            await _demand_free(wired.shreds, tenant)
        signed = await wired.keys.shreds.execute_shred(tenant, reason=reason)
        await wired.shreds.bury([tenant])
        return signed


async def _status(settings: Settings, tenant: str) -> TenantKeys:
    async with opened(settings) as wired:
        return await wired.keys.tenant(tenant)


async def _receipt(settings: Settings, tenant: str) -> SignedReceipt:
    async with opened(settings) as wired:
        return await wired.keys.shreds.shred_receipt(tenant)
