"""The command itself, with what every group shares: settings, running, failing in one line."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from gateway import app as composition
from gateway import catalog, logs
from gateway.config import ENV_FILE, ConfigError, Settings, load
from gateway.errors import GatewayError
from keyservice.wire import KeyServiceError

T = TypeVar("T")
FAILED, USAGE = 1, 2

cli = typer.Typer(
    name="sealgate",
    help="A storage gateway that seals attachments before any store sees them.",
    epilog="Every setting is also an environment variable: SEALGATE_LISTEN__PORT=8080. "
    "Flags win over the environment, which wins over the file. Try `sealgate dev` first.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", envvar=ENV_FILE, help="TOML settings.")
]


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"sealgate: {message}", err=True)
    raise typer.Exit(code)


def settings_of(config: Path | None, flags: dict[str, Any] | None = None) -> Settings:
    """Load the settings, or end with what is wrong with them."""
    try:
        return load(config, flags)
    except ConfigError as error:
        fail(str(error), USAGE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; turn what was raised on purpose into one line."""
    try:
        return uvloop.run(work)
    except* (GatewayError, KeyServiceError, OSError) as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        fail(str(error) or type(error).__name__)
    except* ConfigError as group:
        fail(str(group.exceptions[0]), USAGE)


@cli.command()
def serve(
    *,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (listen.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any.")] = None,
) -> None:
    """Run the gateway until SIGTERM, then finish running streams and stop."""
    listen = {k: v for k, v in (("host", host), ("port", port)) if v is not None}
    settings = settings_of(config, {"listen": listen} if listen else {})
    logs.configure(settings.log_level)
    run(composition.serve(settings))


@cli.command("check-config")
def check_config(config: Config = None) -> None:
    """Load the settings and every file they name, start nothing, and say what is wrong."""
    settings = settings_of(config)
    try:
        composition.check(settings)
    except ConfigError as error:
        fail(str(error), USAGE)
    typer.echo(f"settings are usable: {len(settings.targets)} targets")


@cli.command()
def migrate(config: Config = None) -> None:
    """Create the catalog's tables, or bring them up to date. Safe to repeat."""
    settings = settings_of(config)
    run(catalog.migrate(composition.catalog_url(settings)))
    typer.echo("the catalog is up to date", file=sys.stdout)


def main() -> None:
    """Run the command line."""
    cli()
