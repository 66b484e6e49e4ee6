"""The rules of the service tests are in force: no way out, no blocked loop."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from blockbuster import BlockingError

from keyservice.files import read_secret

BLOCKS = """
import asyncio, pathlib, sys
from keyservice.files import read_secret

async def main():
    read_secret(pathlib.Path(sys.argv[1]))

asyncio.run(main())
"""


def test_nothing_leaves_this_machine() -> None:
    with socket.socket() as way_out, pytest.raises(Exception, match=r"192\.0\.2\.1"):
        way_out.connect(("192.0.2.1", 9))


async def test_our_code_may_not_block_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    with pytest.raises(BlockingError):
        read_secret(file)


def test_nor_may_it_in_the_programs_that_tests_start(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "secret").touch(mode=0o600)
    done = subprocess.run(
        [sys.executable, "-m", "tests.stack.unblocked", "blocks", str(tmp_path / "secret")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "BlockingError" in done.stderr
