"""`sealgate rotate`: new keys in place of old ones. Each command is in a file of its own."""

import typer

group = typer.Typer(help="Rotate keys.", no_args_is_help=True)
