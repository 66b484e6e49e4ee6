"""What a scrub saw is told soon, so that it takes nothing back that was seen after it."""

from collections.abc import Sequence
from typing import cast

import pytest

from gateway.ports import Finding, Replicas
from gateway.repair import findings
from gateway.repair.findings import Findings, Tally, Unwatched
from gateway.repair.verify import Under
from tests.doubles.blobs import seal


class Told:
    """How many findings a catalog was told of, each time."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def report(self, findings: Sequence[Finding]) -> int:
        self.batches.append(len(findings))
        return 0


async def test_what_was_seen_is_told_before_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    told, version, under = Told(), seal(b"x").version, Under("k1")
    found = Findings(cast("Replicas", told), "east", Tally(), Unwatched())
    monkeypatch.setattr(findings, "STALE", 3600.0)
    await found.good(version, under)
    await found.good(version, under)
    assert told.batches == []
    monkeypatch.setattr(findings, "STALE", 0.0)
    await found.good(version, under)
    assert told.batches == [3]
    await found.flush()
    assert told.batches == [3]
