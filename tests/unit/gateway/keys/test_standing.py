"""Nothing of a tenant whose keys are destroyed comes back, and nothing is guessed."""

import pytest

from gateway.keys.standing import SHREDDED, UNKNOWN, Standing
from keyservice.wire import Unavailable
from tests.doubles.keys import MemoryKeys

TENANT = "a" * 32


async def test_each_state_has_its_answer() -> None:
    keys = MemoryKeys()
    await keys.create_tenant(TENANT)
    for state, refusal in (("active", ""), ("suspended", ""), ("shredded", SHREDDED)):
        keys.states[TENANT] = state
        assert await Standing(keys).refusal(TENANT) == refusal
    assert await Standing(keys).refusal("b" * 32) == UNKNOWN


async def test_what_cannot_be_asked_is_not_guessed() -> None:
    keys = MemoryKeys()
    keys.down = True
    with pytest.raises(Unavailable):
        await Standing(keys).refusal(TENANT)


async def test_a_long_run_asks_again() -> None:
    keys, time = MemoryKeys(), [0.0]
    await keys.create_tenant(TENANT)
    standing = Standing(keys, fresh=30, clock=lambda: time[0])
    assert await standing.refusal(TENANT) == ""
    keys.states[TENANT] = "shredded"
    assert await standing.refusal(TENANT) == ""
    time[0] = 31
    assert await standing.refusal(TENANT) == SHREDDED
