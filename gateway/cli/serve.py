"""`sealgate serve`: the gateway itself."""

import gc
import resource
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.command import USAGE, Config, run, settings_of, teach
from gateway.processes import figures
from gateway.processes import workers as workers_of
from gateway.settings.config import Settings
from keyservice import logs
from keyservice.layered import ConfigError

_FILES = 65536
_YOUNG = 10_000  # objects made, and not yet gone again, before the collector looks at them; not 700
HELP = teach(
    "Run the gateway until SIGTERM or Ctrl-C, then finish running streams and stop.",
    "sealgate serve --config /etc/sealgate/sealgate.toml",
    "sealgate serve --config sealgate.toml --host 127.0.0.1 --port 8081 --workers 2",
)


def serve(
    *,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (listen.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the port (workers).")
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Run the gateway."""
    listen: dict[str, Any] = {"host": host, "port": port, "shared": worker or None}
    listen = {name: value for name, value in listen.items() if value is not None}
    flags: dict[str, Any] = {"listen": listen, "workers": 1 if worker else workers}
    settings = settings_of(config, {name: value for name, value in flags.items() if value})
    logs.configure(settings.log_level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys and plaintext
    allow_connections()
    if settings.workers > 1 and config is not None:
        if not run(_parent(settings, config)):
            raise typer.Exit(USAGE)
        return
    from gateway.wiring import app  # noqa: PLC0415 - help, and the parent of workers, do without it

    if worker:
        figures.share()
    spare_collections()
    run(app.serve(settings))


def allow_connections() -> None:
    """Raise the soft limit on open files, often 1024, so that `limits.connections` comes first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spare_collections() -> None:
    """Keep the garbage collector from what was imported, and let it look at the rest less often.

    A request leaves next to no cycles behind, but makes hundreds of objects: with Python's defaults a tenth
    of the time went into looking for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


async def _parent(settings: Settings, config: Path) -> bool:
    """Keep the workers running until told to stop; tell whether they could start."""
    if settings.listen.unix_socket is not None:
        raise ConfigError("workers share a port; a Unix socket has one process: set workers = 1")
    with workers_of.reserved(settings.listen.host, settings.listen.port) as port:
        return await workers_of.Workers(
            workers_of.command(config, settings.listen.host, port),
            settings.workers,
            drain_timeout=settings.drain_delay + settings.drain_timeout,
            fatal=USAGE,
        ).run()
