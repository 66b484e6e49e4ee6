"""A tenant's policy: its own or the configured one, believed for a moment."""

import pytest

from gateway.errors import NotFound
from gateway.targets.policies import Policies
from gateway.targets.quorum import Quorum, QuorumLost
from tests.unit.gateway.conftest import Bench


class Clock:
    """Shows the time that it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_policy_is_read_once_in_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, default, asked = Clock(), Quorum.parse("all"), 0
    tenant = bench.catalog.tenant

    async def counted(name: str) -> object:
        nonlocal asked
        asked += 1
        return await tenant(name)

    monkeypatch.setattr(bench.catalog, "tenant", counted)
    policies = Policies(bench.catalog, default, fresh=5.0, clock=clock)

    assert await policies.of(bench.tenant) == default
    await bench.catalog.set_quorum(bench.tenant, "majority")
    clock.now = 4.9
    assert await policies.of(bench.tenant) == default
    clock.now = 5.0
    for _ in range(9):
        assert await policies.of(bench.tenant) == Quorum.parse("majority")
    assert asked == 2


async def test_of_nobody(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await Policies(bench.catalog, Quorum()).of("0" * 32)


async def test_a_policy_of_a_newer_version_acknowledges_nothing(bench: Bench) -> None:
    await bench.catalog.set_quorum(bench.tenant, "planets:2")

    with pytest.raises(QuorumLost, match="not known to this gateway"):
        await bench.store(b"x")
