"""Commands in processes that are forked from one which has imported everything, to be killed.

A command of its own takes seconds to import on a busy machine, which is most of a test that kills it
twenty times. These begin at once, run the same code from the same words, and die of SIGKILL the same.
"""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["gateway.cli.root", "gateway.app", "gateway.catalog.open"])


def sealgate(config: Path, *words: str) -> BaseProcess:
    """Start `sealgate` with these words and settings; its exit code is `exitcode` after `join`."""
    process: ForkServerProcess = _FORKS.Process(target=_run, args=(config, words), daemon=True)
    process.start()
    return process


def _run(config: Path, words: tuple[str, ...]) -> None:
    from gateway.cli.root import cli  # noqa: PLC0415 - in the forked process, where it is loaded

    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.environ["SEALGATE_CONFIG"] = str(config)
    os.chdir(config.parent)
    cli(words, prog_name="sealgate")
