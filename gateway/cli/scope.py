"""What a command works on, spelled alike everywhere: a tenant or several, an attachment, a target."""

from typing import Annotated

import typer

from gateway.cli.command import USAGE, fail

Tenant = Annotated[
    str, typer.Argument(metavar="TENANT", help="The tenant's id: 32 hex characters.")
]
OneTenant = Annotated[
    str | None, typer.Option("--tenant", "-t", metavar="ID", help="One tenant, by its id.")
]
Tenants = Annotated[
    list[str] | None,
    typer.Option("--tenant", "-t", metavar="ID", help="One tenant, by its id; may be repeated."),
]
Attachment = Annotated[
    str | None,
    typer.Option(metavar="TENANT/REFERENCE", help="One attachment, with all its versions."),
]
Version = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Of that attachment this version alone.")
]
Target = Annotated[
    str | None, typer.Option("--target", metavar="TARGET", help="This target alone.")
]
Source = Annotated[str, typer.Option("--from", metavar="TARGET", help="Where to read.")]


def demand_one(
    attachment: str | None, tenants: str | list[str] | None, *, everything: bool
) -> None:
    """End unless exactly one of the three says how much is meant."""
    if [attachment, tenants or None, everything or None].count(None) != 2:  # noqa: PLR2004 - one
        fail("name one of --attachment TENANT/REFERENCE, --tenant ID and --all", USAGE)


def named(attachment: str) -> tuple[str, str]:
    """Return the tenant and the reference of an attachment, or end if it names none."""
    tenant, _, reference = attachment.partition("/")
    if not reference:
        fail("an attachment is named by its tenant, a slash, and its reference", USAGE)
    return tenant, reference
