"""A stack on real S3 servers with attachments in it, shared by a module, and commands on it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.restore.forks import Forks
from tests.faults.restore.site import Site
from tests.servers.versitygw import Versitygw
from tests.stack.stack import Bucket, Stack

NAMES = ("primary", "east", "west")


@pytest.fixture(scope="module")
def site(s3: Versitygw, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a stack on three buckets, with two tenants that have uploaded something."""
    home = tmp_path_factory.mktemp("restore")
    stack = Stack(
        home / "stack",
        targets={name: Bucket(s3, s3.new_bucket()) for name in NAMES},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        extra={"limits": {"part_size": 5 * 1024 * 1024}},
        top={"log_level": "warning"},
    )
    with ExitStack() as running:
        stack.start()
        running.callback(stack.stop)
        made = Site(stack, stack.admin_token())
        asyncio.run(made.fill(tenants=2))
        yield made


@pytest.fixture(scope="module")
def forks(site: Site) -> Iterator[Forks]:
    """Give `sealgate` on that stack."""
    with Forks(site.stack.home, site.environment) as started:
        yield started


@pytest.fixture
def out(site: Site, request: pytest.FixtureRequest) -> Path:
    """Give a folder of this test's own that is not there yet."""
    return site.stack.home / f"out-{request.node.name}"
