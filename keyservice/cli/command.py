"""How every command of the key service ends that cannot be done: one line, and an exit code."""

from typing import NoReturn

import typer

from keyservice.commandline import FAILED


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"sealgate-keyservice: {message}", err=True)
    raise typer.Exit(code)
