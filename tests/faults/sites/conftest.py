"""Sites for fault tests: built once a module, on S3 servers of its own where those are to be killed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import binary
from tests.servers.versitygw import Versitygw


@pytest.fixture(scope="module")
def own_s3(s3: Versitygw, server_home: Callable[[str], Path]) -> Iterator[Callable[[], Versitygw]]:
    """Start S3 servers that a module may kill and start again."""
    assert s3.running  # so the program is there
    program = binary.find(binary.VERSITYGW)
    assert program is not None
    with ExitStack() as running:

        def start() -> Versitygw:
            server = Versitygw(program, server_home("versitygw"))
            running.callback(server.stop)
            server.start()
            return server

        yield start
