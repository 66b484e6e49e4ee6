"""`sealgate rebuild-catalog` in a forked process, in small steps, with little patience for the dead."""

from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.stack import forks


def begin(config: Path, source: str) -> BaseProcess:
    """Start a rebuild from a target."""
    process = forks._FORKS.Process(target=_run, args=(config, source), daemon=True)
    process.start()
    return process


def _run(config: Path, source: str) -> None:
    from gateway.recovery import envelopes, rebuild  # noqa: PLC0415 - in the forked process

    rebuild.LEASE = timedelta(milliseconds=50)  # type: ignore[misc]
    envelopes.BATCH = 4  # type: ignore[misc]
    forks._run(config, ("rebuild-catalog", "--from", source))
