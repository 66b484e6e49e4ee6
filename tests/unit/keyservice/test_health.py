"""Readiness: a line a dependency, and out only when nobody could be served."""

import asyncio

import pytest

from keyservice.health import Health
from keyservice.ports import RootStatus
from tests.unit.keyservice.fakes import FakeClock


class Parts:
    """Health over two dependencies that can be told how they are."""

    def __init__(self) -> None:
        self.fit = {"audit": True, "root": True}
        self.cached = False
        self.asked = 0
        self.clock = FakeClock()
        self.reported: dict[str, bool] = {}
        self.health = Health(
            needed={"audit": lambda: self.status("audit")},
            cached={"root": lambda: self.status("root")},
            serves_cached=lambda: self.cached,
            report=self.reported.__setitem__,
            clock=self.clock,
        )

    async def status(self, name: str) -> RootStatus:
        """Say how the dependency was told to be."""
        self.asked += 1
        await asyncio.sleep(0)
        return RootStatus(healthy=self.fit[name], detail=f"{name} detail")


async def test_all_is_well() -> None:
    parts = Parts()
    assert await parts.health.ready() == (True, "audit: ok: audit detail\nroot: ok: root detail\n")
    assert parts.reported == {"audit": True, "root": True}


@pytest.mark.parametrize(
    ("down", "cached", "ready", "line"),
    [
        ("audit", True, False, "audit: failed: audit detail"),
        ("root", True, True, "root: degraded: root detail"),
        ("root", False, False, "root: failed: root detail"),
    ],
)
async def test_a_dependency_that_fails(*, down: str, cached: bool, ready: bool, line: str) -> None:
    parts = Parts()
    parts.fit[down] = False
    parts.cached = cached
    found, text = await parts.health.ready()
    assert found is ready
    assert line in text.splitlines()
    assert not parts.reported[down]


async def test_draining_is_not_ready() -> None:
    parts = Parts()
    parts.health.draining = True
    ready, text = await parts.health.ready()
    assert not ready
    assert text.startswith("draining")


async def test_dependencies_are_not_asked_more_than_every_two_seconds() -> None:
    parts = Parts()
    await asyncio.gather(*(parts.health.ready() for _ in range(50)))
    assert parts.asked == 2
    parts.clock.now += 2
    await parts.health.ready()
    assert parts.asked == 4


async def test_one_dependency_comes_from_the_same_answers() -> None:
    parts = Parts()
    await parts.health.ready()
    parts.fit["root"] = False
    assert (await parts.health.of("root")).healthy
    assert parts.asked == 2
    parts.clock.now += 2
    assert not (await parts.health.of("root")).healthy
