"""What `sealgate` and `sealgate-keyservice` share: help that teaches, `--version`, and how wrong usage ends.

Guarantees that wrong usage is one line on standard error and exit code 2, and that an interrupted command
ends with 130. It knows no command: each program has its own.
"""

import importlib.metadata
import sys
from typing import Annotated, Final, NoReturn

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

FAILED: Final = 1
USAGE: Final = 2
CODES: Final = "Exit codes: 0 done, 1 it failed, 2 wrong usage or settings."


def teach(text: str, *examples: str, codes: str = CODES) -> str:
    """Return a command's help: what it does, lines to copy, and how it ends.

    The first sentence stands alone, since the list of commands shows it.
    """
    summary, _, rest = text.partition(". ")
    lines = "\n".join(f"  $ {example}" for example in examples)
    about = f"{summary}.\n\n{rest}" if rest else summary
    return f"{about}\n\n\b\nExamples:\n{lines}\n\n{codes}"


def version() -> str:
    """Return the version that is installed."""
    try:
        return importlib.metadata.version("sealgate")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _told(ctx: typer.Context, *, asked: bool) -> None:
    if asked:
        typer.echo(f"{ctx.info_name} {version()}")
        raise typer.Exit


def root(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_told, is_eager=True, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """Take the options of a program itself: its callback."""


def main(cli: typer.Typer, program: str) -> NoReturn:
    """Run a program's command line and exit. Wrong usage is one line, like all else that goes wrong."""
    try:
        ended = cli(prog_name=program, standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else program
        said = error.format_message().removesuffix(".")
        typer.echo(f"{command}: {said} (see `{command} --help`)", err=True)
        sys.exit(error.exit_code)
    except typer.Abort:
        typer.echo(f"{program}: nothing was answered: nothing was done", err=True)
        sys.exit(FAILED)
    sys.exit(ended if isinstance(ended, int) else 0)
