"""A drill of what was resealed: before it, and while it is under way."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.rotation.reseal import Outcome
from tests.doubles.resealing import reseal
from tests.unit.gateway.recovery.conftest import Site
from tests.unit.gateway.recovery.test_drill import drill_of, fill


@pytest.mark.parametrize("everything", [False, True], ids=["sample", "everything"])
async def test_a_version_that_has_two_forms_meanwhile_is_no_finding(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everything: bool
) -> None:
    await fill(site)
    bench = site.bench
    early = await bench.catalog.find(bench.tenant, "r/3")
    late = await bench.catalog.find(bench.tenant, "r/4")
    assert await reseal(bench, early.version) is Outcome.RESEALED
    held, asked = bench.catalog.replicas.held, 0

    async def meanwhile(*words: Any, **options: Any) -> Sequence[Any]:
        nonlocal asked
        asked += 1
        page = await held(*words, **options)
        if asked == 1:
            assert await reseal(bench, late.version) is Outcome.RESEALED
            if everything:  # what was rebuilt is of before; of a sample it is what was chosen
                page = await held(*words, **options)
        return page

    monkeypatch.setattr(bench.catalog.replicas, "held", meanwhile)
    drilled = await drill_of(site).run(site.east, everything=everything)
    assert asked
    assert drilled.failures == []
