"""Figures of lag, and the two events that are made of them."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from gateway.errors import CatalogUnavailable
from gateway.model import ReplicaState
from gateway.ports import Lag
from gateway.targets.lag import Lags
from tests.doubles.blobs import seal
from tests.doubles.replicas import MemoryReplicas

STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING
BLOB = seal(b"x" * 3000)


@dataclass
class Figures:
    """What is told."""

    last: dict[str, tuple[Lag, float]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    refreshed: int = 0

    def lags(self, lag: Lag, seconds: float) -> None:
        self.last[lag.target] = (lag, seconds)

    def missed_threshold(self, target: str) -> None:
        self.events.append(("missed", target))

    def caught_up(self, target: str) -> None:
        self.events.append(("caught up", target))

    def lags_refreshed(self) -> None:
        self.refreshed += 1


class Site:
    """One version that a backup misses, and a clock that the test moves."""

    def __init__(self) -> None:
        self.replicas, self.figures, self.later = MemoryReplicas(), Figures(), timedelta()
        self.replicas.add(BLOB.version, {"primary": STORED, "east": MISSING})
        self.lags = Lags(
            self.replicas,
            ["primary", "east"],
            self.figures,
            threshold=900,
            every=0.01,
            clock=lambda: BLOB.version.created + self.later,
        )

    def fill(self) -> None:
        self.replicas.rows[BLOB.version.id, "east"].state = STORED


@pytest.fixture
def site() -> Site:
    return Site()


async def test_it_tells_how_far_each_target_is_behind(site: Site) -> None:
    site.later = timedelta(seconds=60)
    await site.lags.refresh()
    lag, seconds = site.figures.last["east"]
    assert (lag.objects, lag.bytes, lag.failing) == (1, len(BLOB.body), 0)
    assert seconds == 60
    assert site.figures.last["primary"] == (Lag("primary", 0, 0, None, 0), 0.0)
    assert site.figures.events == []


async def test_a_target_that_is_behind_for_too_long_is_told_of_once(site: Site) -> None:
    site.later = timedelta(minutes=16)
    with capture_logs() as logs:
        await site.lags.refresh()
        await site.lags.refresh()
        site.fill()
        await site.lags.refresh()
        await site.lags.refresh()
    assert site.figures.events == [("missed", "east"), ("caught up", "east")]
    assert [each["event"] for each in logs] == [
        "target missed the threshold",
        "target caught up",
    ]
    assert logs[0]["log_level"] == "error"
    assert logs[1]["late"] is True


async def test_a_short_delay_is_no_alarm(site: Site) -> None:
    await site.lags.refresh()
    site.fill()
    await site.lags.refresh()
    assert site.figures.events == [("caught up", "east")]


async def test_clocks_that_differ_make_no_negative_lag(site: Site) -> None:
    site.later = -timedelta(hours=1)
    await site.lags.refresh()
    assert site.figures.last["east"][1] == 0


async def test_a_catalog_that_is_down_leaves_the_figures_as_they_were(site: Site) -> None:
    site.replicas.down = True
    with pytest.raises(CatalogUnavailable):
        await site.lags.refresh()
    assert site.figures.refreshed == 0
    task = asyncio.ensure_future(site.lags.run())
    await asyncio.sleep(0.05)
    site.replicas.down = False
    async with asyncio.timeout(60):
        while not site.figures.refreshed:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
