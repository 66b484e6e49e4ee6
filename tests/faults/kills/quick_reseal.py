"""`sealgate rotate dek` in a forked process, with little patience for the dead."""

from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.stack import forks


def begin(config: Path, *words: str, patience: float = 1.0) -> BaseProcess:
    """Start to reseal. `patience` is by how much longer the row is held than a moment."""
    process = forks._FORKS.Process(target=_run, args=(config, words, patience), daemon=True)
    process.start()
    return process


def _run(config: Path, words: tuple[str, ...], patience: float) -> None:
    from gateway.duties.resumed import resumed  # noqa: PLC0415 - in the forked process

    wrapped = resumed.__wrapped__  # type: ignore[attr-defined]
    wrapped.__kwdefaults__["lease"] = timedelta(seconds=0.5 * patience)
    output = str(config.with_name("reseal"))
    for name in (f"{output}.in", output, f"{output}.err"):
        Path(name).write_text("")
    forks._run(config, ("rotate", "dek", *words), output)
