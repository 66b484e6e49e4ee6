"""The command `sealgate-keyservice`: serve, certs, check-config, setup-vault, setup-held, status.

Exit codes: 0 done, 1 it failed or is not healthy, 2 wrong usage or settings. Anything that goes
wrong is one line on standard error.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop

from keyservice import certs as certificates
from keyservice import commandline, logs
from keyservice.cli.command import Json, fail
from keyservice.cli.held import HELD, setup_held
from keyservice.cli.vault import VAULT, setup_vault
from keyservice.client.client import KeyServiceClient
from keyservice.commandline import FAILED, USAGE, teach
from keyservice.config import ENV_FILE, Settings, load
from keyservice.files import read_secret
from keyservice.layered import ConfigError
from keyservice.wire import KeyServiceError
from keyservice.wiring import app as composition

T = TypeVar("T")

cli = typer.Typer(
    name="sealgate-keyservice",
    help="Hand out, wrap and unwrap data keys for Sealgate's gateways.",
    epilog="Every setting is also an environment variable: SEALGATE_KEYSERVICE_LISTEN__PORT=8443. "
    "Flags win over the environment, which wins over the file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli.callback()(commandline.root)

_SERVE = teach(
    "Run the key service until SIGTERM, then finish what it accepted and stop. SIGHUP reloads the policy and "
    "the certificate; a policy that changed is read anew by itself.",
    "sealgate-keyservice serve --config /etc/sealgate-keyservice/keyservice.toml",
    "sealgate-keyservice serve --config keyservice.toml --host 127.0.0.1 --port 8443",
)
_CHECK = teach(
    "Load the settings and everything they name, start nothing, and say what is wrong. "
    "Neither Vault nor anybody else is asked.",
    "sealgate-keyservice check-config --config keyservice.toml",
)
_CERTS = teach(
    "Make a development CA and certificates for one gateway and one key service. "
    "For production take them from your own authority.",
    "sealgate-keyservice certs ./certs --server-name keys.internal",
    "sealgate-keyservice certs ./certs --force --days 30",
)
_STATUS = teach(
    "Ask a running key service whether its root answers. By the identity of a gateway or an administrator: "
    "the three files that a gateway's settings name for it; in development by a token.",
    "sealgate-keyservice status --url https://keys.internal:8443 --ca ca.crt --certificate gateway.crt "
    "--private-key gateway.key",
    "sealgate-keyservice status --url unix:///run/keys.sock --token-file token --json",
    codes="Exit codes: 0 healthy, 1 not healthy or no answer, 2 wrong usage.",
)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", envvar=ENV_FILE, help="TOML settings.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on (listen.host).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on, 0 for any (listen.port).")]
Socket = Annotated[Path | None, typer.Option(help="Unix socket instead (listen.unix_socket).")]
Policy = Annotated[Path | None, typer.Option(help="Policy file (policy_file).")]
Level = Annotated[str | None, typer.Option(help="debug, info, warning or error (log_level).")]


@cli.command(help=_SERVE)
def serve(
    *,
    config: Config = None,
    host: Host = None,
    port: Port = None,
    unix_socket: Socket = None,
    policy_file: Policy = None,
    log_level: Level = None,
) -> None:
    """Run the key service."""
    flags = _flags(host, port, unix_socket, policy_file, log_level)
    settings = _settings(config, flags)
    logs.configure(settings.log_level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
    _run(composition.serve(settings))


@cli.command("check-config", help=_CHECK)
def check_config(*, config: Config = None, as_json: Json = False) -> None:
    """Check the settings."""
    settings = _settings(config, {})
    try:
        composition.check(settings)
    except (ConfigError, OSError, ValueError) as error:
        fail(str(error), USAGE)
    kind = "local" if settings.root.local is not None else "vault"
    if as_json:
        typer.echo(json.dumps({"usable": True, "root": kind}))
    else:
        typer.echo(f"the settings are usable; the root is {kind}")


@cli.command(help=_CERTS)
def certs(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write; created when missing.")
    ],
    *,
    server_name: Annotated[
        list[str] | None,
        typer.Option(help="DNS name or address of the key service; may be repeated."),
    ] = None,
    gateway_name: Annotated[
        str, typer.Option(help="DNS name by which the policy knows the gateway.")
    ] = certificates.GATEWAY_NAME,
    days: Annotated[int, typer.Option(min=1, max=825, help="How many days they are valid.")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Make certificates."""
    names = server_name or list(certificates.SERVER_NAMES)
    try:
        written = certificates.issue(
            folder, server_names=names, gateway_name=gateway_name, days=days, force=force
        )
    except (OSError, ValueError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps({"written": [str(path) for path in written]}))
        return
    for path in written:
        typer.echo(path)


@cli.command(help=_STATUS)
def status(
    *,
    url: Annotated[str, typer.Option(help="https://host:port, or unix:///path in development.")],
    ca: Annotated[Path | None, typer.Option(help="CA of the key service.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Client certificate.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Development token.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a key service."""

    async def ask() -> bool:
        token = read_secret(token_file).decode("ascii").strip() if token_file else None
        async with KeyServiceClient(
            url, ca_file=ca, certificate=certificate, private_key=private_key, token=token
        ) as client:
            found = await client.status()
        if as_json:
            fields = {"root": found.root, "healthy": found.healthy, "detail": found.detail}
            typer.echo(json.dumps(fields))
        else:
            word = "healthy" if found.healthy else "NOT healthy"
            typer.echo(f"root {found.root} is {word}: {found.detail}")
        return found.healthy

    if not _run(ask()):
        raise typer.Exit(FAILED)


cli.command("setup-vault", help=VAULT)(setup_vault)
cli.command("setup-held", help=HELD)(setup_held)


def main() -> None:
    """Run the command line."""
    commandline.main(cli, "sealgate-keyservice")


def _flags(
    host: str | None,
    port: int | None,
    unix_socket: Path | None,
    policy_file: Path | None,
    log_level: str | None,
) -> dict[str, Any]:
    listen = {"host": host, "port": port, "unix_socket": unix_socket}
    flags: dict[str, Any] = {"policy_file": policy_file, "log_level": log_level}
    flags["listen"] = {name: value for name, value in listen.items() if value is not None} or None
    return {name: value for name, value in flags.items() if value is not None}


def _settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    try:
        return load(config, flags)
    except ConfigError as error:
        fail(str(error), USAGE)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(work)
    except ConfigError as error:
        fail(str(error), USAGE)
    except (KeyServiceError, OSError, ValueError) as error:
        fail(str(error))
