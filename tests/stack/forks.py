"""Commands in processes that are forked from one which has imported everything, to be killed.

A command of its own takes seconds to import on a busy machine, which is most of a test that kills it
twenty times. These begin at once, run the same code from the same words, and die of SIGKILL the same.
"""

import json
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["gateway.cli.root", "gateway.wiring.app", "gateway.catalog.open"])


def sealgate(config: Path, *words: str) -> BaseProcess:
    """Start `sealgate` with these words and settings; its exit code is `exitcode` after `join`."""
    return _start(config, words, os.devnull)


def told(
    config: Path, *words: str, code: int | tuple[int, ...] = 0, typed: str = ""
) -> dict[str, Any]:
    """Run `sealgate` with these words to its end, with this code or one of these; return its JSON, if any.

    What is `typed` stands on its standard input.
    """
    with tempfile.TemporaryDirectory(dir=config.parent) as folder:
        output = Path(folder, "output")
        Path(f"{output}.in").write_text(typed)
        process = _start(config, words, str(output))
        process.join()
        text, errors = output.read_text(), Path(f"{output}.err").read_text()
        codes = (code,) if isinstance(code, int) else code
        assert process.exitcode in codes, (words, process.exitcode, errors, text)
    shown: dict[str, Any] = json.loads(text) if text.startswith("{") else {"text": text + errors}
    return shown


def cut_off(process: BaseProcess, wait: float) -> int | None:
    """Kill a process after so many seconds; return its exit code if it was faster."""
    process.join(wait)
    process.kill()
    process.join()
    return process.exitcode if process.exitcode is not None and process.exitcode >= 0 else None


def _start(config: Path, words: tuple[str, ...], output: str) -> ForkServerProcess:
    process: ForkServerProcess = _FORKS.Process(
        target=_run, args=(config, words, output), daemon=True
    )
    process.start()
    return process


def _run(config: Path, words: tuple[str, ...], output: str = os.devnull) -> None:
    from gateway.cli.root import cli  # noqa: PLC0415 - in the forked process, where it is loaded

    quiet = output == os.devnull
    paths = (output,) * 3 if quiet else (f"{output}.in", output, f"{output}.err")
    for stream, path in enumerate(paths):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a forked process begins without one
    os.environ["SEALGATE_CONFIG"] = str(config)
    os.chdir(config.parent)
    cli(words, prog_name="sealgate")
