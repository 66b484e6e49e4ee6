"""Gateways to be loaded: one that most tests share, and others with settings of their own."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.load.place import Place

GRACE = 4.0
HEAD_TIMEOUT = 2.0
LIMITS = {
    "slow_grace": GRACE,
    "min_rate": 512.0,
    "head_timeout": HEAD_TIMEOUT,
    "tenant_streams": 256,  # the long proof has 200 readers of one tenant
}


class NewPlace(Protocol):
    """Builds and starts a place of one test's own, with the options of `Stack`."""

    async def __call__(self, home: Path, kind: type[Place] = Place, **options: Any) -> Place:
        """Return it, running."""
        ...


def on_folders(home: Path, **options: Any) -> dict[str, Any]:
    """Return the options of a stack on one folder."""
    return {
        "targets": {"primary": home / "primary"},
        "catalog": f"sqlite:///{home / 'catalog.db'}",
        **options,
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run the gateway that most tests share, impatient with slow clients."""
    home = tmp_path_factory.mktemp("load")
    shared = Place(home / "stack", **on_folders(home, extra={"limits": LIMITS}))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture(scope="session")
def token(place: Place) -> str:
    """Return a token that may do everything on the shared gateway."""
    return place.admin_token()


@pytest.fixture
def new_place() -> Iterator[NewPlace]:
    """Start gateways; they are stopped at the end of the test."""
    with ExitStack() as running:

        async def start(home: Path, kind: type[Place] = Place, **options: Any) -> Place:
            made = await asyncio.to_thread(kind, home / "stack", **options)
            running.callback(made.stop)
            await asyncio.to_thread(made.start)
            return made

        yield start
