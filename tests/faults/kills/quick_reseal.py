"""`sealgate rotate dek` in a forked process, with little patience for the dead."""

from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.stack import forks


def begin(config: Path, *words: str) -> BaseProcess:
    """Start to reseal."""
    process = forks._FORKS.Process(target=_run, args=(config, words), daemon=True)
    process.start()
    return process


def _run(config: Path, words: tuple[str, ...]) -> None:
    from gateway.duties.resumed import resumed  # noqa: PLC0415 - in the forked process

    wrapped = resumed.__wrapped__  # type: ignore[attr-defined]
    wrapped.__kwdefaults__["lease"] = timedelta(milliseconds=500)
    output = str(config.with_name("reseal"))
    for name in (f"{output}.in", output, f"{output}.err"):
        Path(name).write_text("")
    forks._run(config, ("rotate", "dek", *words), output)
