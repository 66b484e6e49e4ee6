"""Many clients that read at 1 KB/s: they are served, and cost a window each, whatever they read.

The same measurement must find fault with a gateway whose downloads do not wait for their writes.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.load.conftest import GRACE, LIMITS, NewPlace, on_folders
from tests.load.place import Place, UnawaitedPlace, quiet
from tests.load.slow_readers import Flow, slow_readers
from tests.stack.client import MiB, generated


@pytest.mark.parametrize(
    ("readers", "size", "seconds"),
    [
        (60, MiB, 3.0),
        pytest.param(60, 256 * MiB, 2.5 * GRACE, marks=pytest.mark.timeout(300)),
        pytest.param(
            200, 10240 * MiB, 120.0, marks=[pytest.mark.soak, pytest.mark.timeout(1800)], id="soak"
        ),
    ],
)
async def test_slow_readers_are_served_from_bounded_memory(  # noqa: PLR0917 - fixtures
    place: Place,
    token: str,
    record_property: Callable[[str, object], None],
    readers: int,
    size: int,
    seconds: float,
) -> None:
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(size))
    before = await place.holdings()

    flow = await slow_readers(place, f"{above}/large", token, readers=readers, seconds=seconds)

    record_property("flow", str(flow))
    assert not flow.violations(), flow
    await quiet(place, before)


@pytest.mark.timeout(300)
async def test_a_download_that_does_not_wait_for_its_writes_is_found(
    place: Place, token: str, tmp_path: Path, new_place: NewPlace
) -> None:
    mutant = await new_place(
        tmp_path, UnawaitedPlace, **on_folders(tmp_path, extra={"limits": LIMITS})
    )

    sound = await _few(place, token)
    unsound = await _few(mutant, mutant.admin_token())

    assert not sound.violations(), sound
    found = unsound.violations()
    assert "memory grows beyond a window a stream" in found, f"the memory test is blind: {unsound}"
    assert "the store is read ahead of the readers" in found, f"the memory test is blind: {unsound}"


async def _few(place: Place, token: str) -> Flow:
    """Measure a few readers only, because the mutant keeps all that it reads."""
    async with place.tenant(token) as (client, above):
        await client.json("PUT", f"{above}/large", data=generated(64 * MiB))
    return await slow_readers(place, f"{above}/large", token, readers=4, seconds=3.0)
