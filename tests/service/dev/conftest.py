"""One embedded stack for all tests of this folder that only use it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.dev.embedded import Embedded


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Give a running stack in a folder where `.venv/bin/python` is, as in a clone."""
    cwd = tmp_path_factory.mktemp("clone")
    (cwd / ".venv").symlink_to(Path(sys.prefix))
    with Embedded(cwd, "--no-tour", "--port", "0") as running:
        yield running.until_up()
