"""`sealgate check-config` and `sealgate migrate`: what precedes the first start."""

import typer

from gateway.cli.command import (
    USAGE,
    Config,
    Json,
    fail,
    run,
    settings_of,
    show_json,
    teach,
)
from keyservice.layered import ConfigError

CHECK = teach(
    "Load the settings and every file they name, start nothing, and say what is wrong.",
    "sealgate check-config --config /etc/sealgate/sealgate.toml",
)
MIGRATE = teach(
    "Create the catalog's tables, or bring them up to date. Safe to repeat, and to run in several "
    "places at once; a gateway of the version before goes on working.",
    "sealgate migrate --config /etc/sealgate/sealgate.toml",
)


def check_config(*, config: Config = None, as_json: Json = False) -> None:
    """Check the settings."""
    from gateway.wiring import app  # noqa: PLC0415 - help answers at once

    settings = settings_of(config)
    try:
        app.check(settings)
    except ConfigError as error:
        fail(str(error), USAGE)
    targets = [{"name": target.name, "role": target.role} for target in settings.targets]
    if as_json:
        show_json({"usable": True, "targets": targets})
    else:
        named = ", ".join(f"{target['name']} ({target['role']})" for target in targets)
        typer.echo(f"the settings are usable; targets: {named}")


def migrate(*, config: Config = None, as_json: Json = False) -> None:
    """Migrate the catalog."""
    from gateway.wiring.adapters import catalog_url  # noqa: PLC0415 - help answers at once

    settings = settings_of(config)
    try:
        url = catalog_url(settings)
    except ConfigError as error:
        fail(str(error), USAGE)
    run(_migrate(url))
    if as_json:
        show_json({"migrated": True})
    else:
        typer.echo("the catalog is up to date")


async def _migrate(url: str) -> None:
    from gateway import catalog  # noqa: PLC0415 - as above

    try:
        await catalog.migrate(url)
    except ValueError as error:
        raise ConfigError(f"catalog: {error}") from None
