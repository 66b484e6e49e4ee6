"""What every command shares: settings, a wired gateway, failing in one line, and how it prints.

The composition root is loaded only by the commands that need it, so that help answers at once.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from gateway.errors import GatewayError, first
from gateway.settings.config import ENV_FILE, Settings, load
from keyservice import commandline, logs
from keyservice.layered import ConfigError

if TYPE_CHECKING:
    from gateway.wiring.core import Core

T = TypeVar("T")
FAILED, USAGE, FINDINGS = commandline.FAILED, commandline.USAGE, 3
teach = commandline.teach
TYPED = "Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage or settings, or another id was typed."

Config = Annotated[
    Path | None, typer.Option("--config", "-c", envvar=ENV_FILE, help="TOML settings.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


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


def target_of(settings: Settings, name: str) -> None:
    """Make sure that a target is configured, or end with those that are."""
    names = [target.name for target in settings.targets]
    if name not in names:
        fail(f"no target {name}: there are {', '.join(names)}", USAGE)


def time_of(option: str, text: str | None) -> datetime | None:
    """Return the time that an option was given, in UTC where it names no other zone."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} takes a time such as 2026-11-22 or 2026-11-22T08:30:00+00:00", USAGE)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def typed_again(name: str, confirm: str | None, what: str, *, nothing: str) -> None:
    """Ask for a name unless `--confirm` gave it, and end unless it is this one."""
    if confirm is None:
        confirm = typer.prompt(f"Type {name} to {what}", err=True)
    if confirm != name:
        fail(f"what was typed is another id: {nothing}", USAGE)


def run(work: Coroutine[Any, Any, T], *expected: type[Exception]) -> T:
    """Run to the end; turn what was raised on purpose, or is expected, into one line."""
    from keyservice.wire import KeyServiceError  # noqa: PLC0415 - see the module

    try:
        return uvloop.run(work)
    except Exception as error:
        # Not `except*`, which would put the Exit that `fail` raises into a group.
        cause = first(error)
        if isinstance(cause, ConfigError):
            fail(str(cause), USAGE)
        if isinstance(cause, (GatewayError, KeyServiceError, OSError, *expected)):
            fail(str(cause) or type(cause).__name__)
        raise


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    *,
    patience: float | None = None,
    share: float = 1.0,
    late: bool = False,
) -> AsyncIterator["Core"]:
    """Wire a gateway without its server, for one command. What it logs goes to standard error.

    `patience` is how many seconds one step of the catalog may take, where that is much; `share` the part
    of the time in which it may write, where requests come first; and `late` whether others may see what it
    writes some milliseconds before that is on disk.
    """
    from gateway.wiring.core import open_core  # noqa: PLC0415 - see the module

    logs.configure("warning")
    async with open_core(settings, patience=patience, share=share, late=late) as wired:
        yield wired


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    typer.echo(json.dumps(value))


def show_fields(fields: Mapping[str, str]) -> None:
    """Print one thing, a line a field."""
    width = max(map(len, fields))
    for name, value in fields.items():
        typer.echo(f"{name:<{width}}  {value}")


def show_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print many things, a line each, in columns that no width cuts."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
