"""The rules of the service tests are in force: no way out, no blocked loop."""

import socket
from pathlib import Path

import pytest
from blockbuster import BlockingError

from keyservice.files import read_secret


def test_nothing_leaves_this_machine() -> None:
    with socket.socket() as way_out, pytest.raises(Exception, match=r"192\.0\.2\.1"):
        way_out.connect(("192.0.2.1", 9))


async def test_our_code_may_not_block_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    with pytest.raises(BlockingError):
        read_secret(file)
