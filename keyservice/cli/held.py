"""`sealgate-keyservice setup-held`: print what a customer makes to hold a tenant's root key.

It prints and does nothing else: the Vault is the customer's, and so is the decision.
"""

from __future__ import annotations

from typing import Annotated

import typer

from keyservice.cli.command import fail
from keyservice.commandline import USAGE, teach
from keyservice.vault.setup_held import HeldSetup, script, section

HELD = teach(
    "Print, for a customer who holds their own key, the commands that make it; least privilege. "
    "Nothing is connected to. With --settings it prints what the key service's settings need of it.",
    "sealgate-keyservice setup-held --name acme --url https://vault.acme.example:8200",
    "sealgate-keyservice setup-held --name acme --url https://vault.acme.example:8200 --settings",
)


def setup_held(
    *,
    name: Annotated[
        str, typer.Option(help="What the root is called in the key service's settings.")
    ],
    url: Annotated[
        str, typer.Option(help="The customer's Vault or OpenBao, as the key service reaches it.")
    ] = "https://vault.customer.example:8200",
    namespace: Annotated[str | None, typer.Option(help="The customer's namespace.")] = None,
    transit_mount: Annotated[str, typer.Option(help="Where the key is.")] = "sealgate-transit",
    transit_key: Annotated[str, typer.Option(help="The key.")] = "sealgate",
    approle_mount: Annotated[str, typer.Option(help="The AppRole log-in.")] = "sealgate-approle",
    role: Annotated[str, typer.Option(help="The role; its policy has the same name.")] = "sealgate",
    cidr: Annotated[
        list[str] | None,
        typer.Option(help="An address range that log-ins may come from; may be repeated."),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(help="A tenant of theirs, for the section; may be repeated."),
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", help="Print the section for the key service's settings instead."
        ),
    ] = False,
    command: Annotated[str, typer.Option(help="vault or bao, in what is printed.")] = "vault",
) -> None:
    """Print a customer's set-up."""
    try:
        setup = HeldSetup(
            name=name,
            url=url,
            namespace=namespace,
            transit_mount=transit_mount,
            transit_key=transit_key,
            approle_mount=approle_mount,
            role=role,
            cidrs=tuple(cidr or ()),
        )
    except ValueError as error:
        fail(str(error), USAGE)
    printed = section(setup, tenant or ()) if settings else script(setup, command=command)
    typer.echo(printed, nl=False)
