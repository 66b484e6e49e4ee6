"""`sealgate serve`: the gateway itself."""

import resource
from typing import Annotated

import typer

from gateway import logs
from gateway.cli.command import Config, run, settings_of, teach

HELP = teach(
    "Run the gateway until SIGTERM or Ctrl-C, then finish running streams and stop.",
    "sealgate serve --config /etc/sealgate/sealgate.toml",
    "sealgate serve --config sealgate.toml --host 127.0.0.1 --port 8081",
)


def serve(
    *,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (listen.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any.")] = None,
) -> None:
    """Run the gateway."""
    from gateway import app  # noqa: PLC0415 - help answers at once

    listen = {k: v for k, v in (("host", host), ("port", port)) if v is not None}
    settings = settings_of(config, {"listen": listen} if listen else {})
    logs.configure(settings.log_level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys and plaintext
    run(app.serve(settings))
