"""`sealgate keys`: what an administrator sees of keys and does with them.

Each command is in a file of its own. They act by the identity of the settings, or by that of
`--certificate` and `--private-key`: what may be done with keys is the key service's to say, and an
administrator has an identity of one's own there.
"""

from pathlib import Path
from typing import Annotated

import typer

from envelope.signature import SignatureRefused, demand_public
from gateway.cli.command import USAGE, fail, settings_of
from gateway.settings.config import Settings
from keyservice.wire import MAX_REASON

group = typer.Typer(help="See and change tenants' keys.", no_args_is_help=True)


def _recorded(reason: str) -> str:
    """Refuse what the key service does not write down."""
    if not 0 < len(reason) <= MAX_REASON or not (reason.isascii() and reason.isprintable()):
        raise typer.BadParameter(f"a reason is printable ASCII, {MAX_REASON} characters at most")
    return reason


Certificate = Annotated[
    Path | None,
    typer.Option(help="Act as this identity at the key service: a client certificate, PEM."),
]
PrivateKey = Annotated[
    Path | None, typer.Option(help="The file of its private key, PEM; with --certificate.")
]
Reason = Annotated[
    str,
    typer.Option(
        help="Why, for the key service's record: printable ASCII, 200 at most.",
        callback=_recorded,
    ),
]

Confirm = Annotated[
    str | None, typer.Option(help="The tenant's id again, for scripts; else it is asked for.")
]


def acting(config: Path | None, certificate: Path | None, private_key: Path | None) -> Settings:
    """Load the settings, with an administrator's identity in place of the gateway's where given."""
    settings = settings_of(config)
    if certificate is None and private_key is None:
        return settings
    if certificate is None or private_key is None:
        fail("give both --certificate and --private-key, or neither", USAGE)
    for path in (certificate, private_key):
        if not path.is_file():
            fail(f"no such file: {path}", USAGE)
    identity = {"certificate": certificate, "private_key": private_key, "token_file": None}
    return settings.model_copy(
        update={"keyservice": settings.keyservice.model_copy(update=identity)}
    )


def public_key(text: str) -> str:
    """Return a public key that was typed, or end if it is none."""
    try:
        return demand_public(text)
    except SignatureRefused as error:
        fail(str(error), USAGE)
