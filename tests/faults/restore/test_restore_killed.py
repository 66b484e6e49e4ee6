"""kill -9 of a restore, again and again, at any moment: the next one goes on, and all of it comes back."""

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.restore.forks import Forks
from tests.faults.restore.site import Site, flip


def harm(site: Site, rng: random.Random) -> None:
    """Lose the primary, all of it or some, or flip bits in it."""
    kind = rng.choice(("all", "some", "flips"))
    if kind == "all":
        site.lose("primary")
    for path in sorted(site.folder("primary").rglob("*")):
        if path.is_file() and path.name in {"body", "envelope"} and rng.random() < 0.5:
            if kind == "some":
                path.unlink()
            elif kind == "flips" and path.stat().st_size:
                flip(path)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
def test_killed_at_any_moment_it_converges(
    kills: int, site: Site, forks: Forks, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(kills)
    total = len(asyncio.run(site.versions()))
    words = ("restore", "--all", "--parallel", "2", "--rate", "24")
    site.lose("primary")
    started = time.monotonic()
    forks.run(*words)
    usual = time.monotonic() - started

    killed = ended = 0
    harm(site, rng)
    while killed < kills:
        fork = forks.start(*words)
        time.sleep(rng.uniform(0, usual))
        fork.kill()
        if fork.wait() < 0:
            killed += 1
        else:  # it was faster; what came back is lost once more
            ended += 1
            harm(site, rng)

    told = forks.json(*words)
    record_property("kills", killed)
    record_property("ended_before", ended)
    assert told["failed"] == {}
    assert told["counts"]["restored"]["versions"] + told["counts"]["skipped"]["versions"] == total
    assert asyncio.run(site.damaged("primary")) == {}
    assert asyncio.run(site.unfinished("primary")) == 0
    assert asyncio.run(site.digests_read()) == site.digests
    assert not list(site.stack.home.glob("restore-*.journal"))
