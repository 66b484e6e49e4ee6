"""How fast a command goes that does what workers do: as the settings say for them, unless options say more.

Guarantees that what an option does not name stays as configured. Limits are those of one process.
"""

from typing import Annotated

import typer

from gateway.settings.config import Settings
from gateway.settings.sections import MiB


def _bytes(rate: float | None) -> float | None:
    return None if rate is None else rate * MiB


_LESS = "0 is no limit; unset, as configured."
Rate = Annotated[
    float | None,
    typer.Option("--rate", min=0, callback=_bytes, help=f"MiB a second at most; {_LESS}"),
]
Envelopes = Annotated[
    float | None, typer.Option("--rate", min=0, help=f"Envelopes a second at most; {_LESS}")
]
Requests = Annotated[
    float | None, typer.Option(min=0, help=f"Requests to targets a second at most; {_LESS}")
]
Parallel = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="How many at a time on each target; unset, as configured."),
]


def paced(settings: Settings, section: str, **asked: float | None) -> Settings:
    """Return the settings with what was asked for in a section; what is None stays."""
    update = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=update)}
    )
