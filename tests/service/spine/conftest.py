"""Stacks on real servers: Vault, PostgreSQL, versitygw."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.servers.postgres import Postgres
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack

NAMES = ("primary", "east", "west")


@pytest.fixture(scope="module")
def spine(
    vault: Vault, s3: Versitygw, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Run gateway and key service on Vault, PostgreSQL, and three buckets; a module shares it."""
    home = tmp_path_factory.mktemp("spine")
    stack = Stack(
        home,
        targets={name: Bucket(s3, s3.new_bucket()) for name in NAMES},
        catalog=postgres.new_database(),
        vault=prepare(vault, home),
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def spine_token(spine: Stack) -> str:
    """Return a token that may do everything on the shared stack."""
    return spine.admin_token()


@pytest.fixture
async def client(spine: Stack, spine_token: str) -> AsyncIterator[Client]:
    """Give an application that may do everything on the shared stack."""
    async with Client(spine.url, spine_token) as application:
        yield application


class NewStack(Protocol):
    """Builds and starts a stack of one test's own, with the options of `Stack`."""

    async def __call__(self, home: Path, **options: Any) -> Stack:
        """Return it, running."""
        ...


@pytest.fixture
def new_stack() -> Iterator[NewStack]:
    """Start stacks to be broken; they are stopped at the end of the test."""
    with ExitStack() as running:

        async def start(home: Path, **options: Any) -> Stack:
            stack = await asyncio.to_thread(Stack, home, **options)
            running.callback(stack.stop)
            await asyncio.to_thread(stack.start)
            return stack

        yield start
