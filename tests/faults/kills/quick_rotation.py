"""`sealgate rotate kek` in a forked process, in small steps, with little patience for the dead."""

from datetime import timedelta
from functools import partialmethod
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.stack import forks


def begin(config: Path, *words: str, patience: float = 1.0) -> BaseProcess:
    """Start a rotation. `patience` is by how much longer a row and a lease are held than a moment."""
    process = forks._FORKS.Process(target=_run, args=(config, words, patience), daemon=True)
    process.start()
    return process


def _run(config: Path, words: tuple[str, ...], patience: float) -> None:
    from gateway.rotation import keks as rotation  # noqa: PLC0415 - as below
    from gateway.rotation import pushing, renewal, rewrapping  # noqa: PLC0415 - in the forked process

    lease = timedelta(seconds=0.5 * patience)
    made = rotation.Rotation.__init__
    rotation.Rotation.__init__ = partialmethod(made, lease=lease)  # type: ignore[method-assign,assignment]
    rewrapping.BATCH, rewrapping.WRITE = 8, 3  # type: ignore[misc]
    pushing.BATCH = 4
    pushing.backoff = lambda tries: 0.2 + 0 * tries  # type: ignore[attr-defined]
    pushed = pushing.Pushing.__init__

    def impatient(self: pushing.Pushing, *wired: Any, **options: Any) -> None:
        pushed(self, *wired, **{**options, "lease": 2.0 * patience})

    pushing.Pushing.__init__ = impatient  # type: ignore[method-assign]
    renewal._MARGIN = timedelta()  # type: ignore[misc]
    output = str(config.with_name("rotation"))
    for name in (f"{output}.in", output, f"{output}.err"):
        Path(name).write_text("")
    forks._run(config, ("rotate", "kek", *words), output)
