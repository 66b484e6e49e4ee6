"""What every command of the key service shares: JSON for programs, and failing in one line."""

from typing import Annotated, NoReturn

import typer

from keyservice.commandline import FAILED

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"sealgate-keyservice: {message}", err=True)
    raise typer.Exit(code)
