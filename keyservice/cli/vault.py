"""`sealgate-keyservice setup-vault`: print, or with `--apply` make, what Vault must hold.

The credentials that it draws are written to 0600 files and never shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyservice.cli.command import fail
from keyservice.commandline import USAGE, teach
from keyservice.files import read_secret, write_durably

VAULT = teach(
    "Print what Vault or OpenBao must hold for the key service, or make it with --apply. "
    "That is a transit mount with the root key that standard tenants share, a mount for records, and a "
    "policy of least privilege with an AppRole. It may be repeated; after an update run it again, which "
    "writes the policy anew. With --credentials it draws a role id and a secret id into 0600 files.",
    "sealgate-keyservice setup-vault --url https://vault.internal:8200",
    "sealgate-keyservice setup-vault --apply --url https://vault.internal:8200 --ca vault-ca.crt "
    "--token-file admin.token --credentials ./vault-credentials",
)


def setup_vault(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it, instead of printing the commands.")
    ] = False,
    url: Annotated[
        str, typer.Option(envvar="VAULT_ADDR", help="Vault or OpenBao.")
    ] = "https://127.0.0.1:8200",
    token_file: Annotated[
        Path | None, typer.Option(help="0600 file with an administrator's token, for --apply.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(envvar="VAULT_CACERT", help="CA of Vault.")] = None,
    namespace: Annotated[
        str | None, typer.Option(envvar="VAULT_NAMESPACE", help="Namespace to work in.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Folder for role-id and secret-id, with --apply.")
    ] = None,
    transit_mount: Annotated[str, typer.Option(help="Where root keys are.")] = "sealgate-transit",
    kv_mount: Annotated[str, typer.Option(help="Where tenant records are.")] = "sealgate-kv",
    standard_key: Annotated[
        str, typer.Option(help="The root key that standard tenants share.")
    ] = "standard",
    approle_mount: Annotated[str, typer.Option(help="The AppRole log-in.")] = "approle",
    role: Annotated[
        str, typer.Option(help="The key service's role; its policy has the same name.")
    ] = "sealgate-keyservice",
    command: Annotated[str, typer.Option(help="vault or bao, in what is printed.")] = "vault",
) -> None:
    """Set up Vault."""
    from keyservice.vault import setup as setting_up  # noqa: PLC0415 - hvac takes a while to load

    setup = setting_up.VaultSetup(
        transit_mount=transit_mount,
        kv_mount=kv_mount,
        standard_key=standard_key,
        approle_mount=approle_mount,
        role=role,
        policy=role,
    )
    if not apply:
        typer.echo(setting_up.script(setup, command=command), nl=False)
        return
    if token_file is None:
        fail("--apply needs --token-file", USAGE)
    try:
        token = read_secret(token_file).decode("ascii").strip()
        with setting_up.administrator(url, token, ca_file=ca, namespace=namespace) as send:
            setting_up.apply(setup, send)
            setting_up.make_wrapping_key(setup, send)
            typer.echo("vault holds what the key service needs")
            if credentials is not None:
                _keep(credentials, setting_up.draw_credentials(setup, send))
    except (setting_up.SetupFailed, OSError, ValueError) as error:
        fail(str(error))


def _keep(folder: Path, drawn: object) -> None:
    """Write the two ids; an earlier secret id is replaced here and stays good at Vault."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("role_id", "secret_id"):
        path = folder / name.replace("_", "-")
        write_durably(path, str(getattr(drawn, name)).encode("ascii"), replace=True)
        typer.echo(path)
