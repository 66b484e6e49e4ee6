"""`sealgate keys ledger`: who is dead for good, and whether all of it is there."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    Config,
    Json,
    opened,
    run,
    show_fields,
    show_json,
    show_rows,
    teach,
)
from gateway.cli.keys import Certificate, PrivateKey, acting, public_key
from gateway.settings.config import Settings
from keyservice.wire import LedgerEntry

_SHOW = teach(
    "Show the shred ledger as the key service has it, and the public key that it signs with. "
    "Keep that key where no restore reaches: receipts and entries are verified with it.",
    "sealgate keys ledger show",
    "sealgate keys ledger show --json | jq -r .public_key > shred-ledger.pub",
)
_VERIFY = teach(
    "Merge the shred ledger with the copies in every target, and verify it: signatures, missing entries, "
    "and two in one place. A worker merges by itself; after a restore of Vault, of a target or of "
    "the ledger's file, do it at once. Entries of other instances need their public keys.",
    "sealgate keys ledger verify",
    "sealgate keys ledger verify --public-key BASE64 --public-key BASE64",
    codes="Exit codes: 0 it is whole, 1 it failed, 2 wrong usage or settings, 3 something is missing, "
    "forged, or could not be copied.",
)

group = typer.Typer(help="The ledger of tenants whose keys are destroyed.", no_args_is_help=True)


@group.command("show", help=_SHOW)
def show(
    *,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the ledger."""
    public, entries = run(_entries(acting(config, certificate, private_key)))
    rows = [
        {
            "ledger": entry.ledger,
            "index": entry.index,
            "tenant": entry.tenant,
            "hash": entry.hash,
        }
        for entry in sorted(entries, key=lambda entry: (entry.ledger, entry.index))
    ]
    if as_json:
        show_json({"public_key": public, "entries": rows})
        return
    show_fields({"public key": public, "entries": str(len(rows))})
    if rows:
        show_rows([*rows[0]], [[str(value) for value in row.values()] for row in rows])


@group.command("verify", help=_VERIFY)
def verify(
    *,
    public: Annotated[
        list[str] | None,
        typer.Option("--public-key", help="Of another instance, base64; may be given again."),
    ] = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Verify the ledger."""
    settings = acting(config, certificate, private_key)
    found = run(_verify(settings, [public_key(each) for each in public or ()]))
    if as_json:
        show_json(found)
    else:
        show_fields({name: _told(value) for name, value in found.items()})
    if found["faults"] or found["failed"] or found["refused"]:
        raise typer.Exit(FINDINGS)


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {why}" for name, why in value.items()) or "none"
    return "; ".join(value) or "none" if isinstance(value, list) else str(value)


async def _entries(settings: Settings) -> tuple[str, Sequence[LedgerEntry]]:
    async with opened(settings) as wired:
        page = await wired.keys.shreds.ledger()
        return page.public, await wired.ledger_copies.entries()


async def _verify(settings: Settings, public: Sequence[str]) -> dict[str, Any]:
    async with opened(settings) as wired:
        copied = await wired.ledger_copies.run()
        page = await wired.keys.shreds.ledger()
        entries = await wired.ledger_copies.entries()
        faults = wired.keys.shreds.faults(entries, [page.public, *public])
    return {**copied.as_json(), "faults": faults}
