"""Reads over every mixture of faults: right as long as one target is whole, never wrong, guilty ones told."""

import os
import random
from contextlib import aclosing

import pytest

from gateway.attachments.downloads import Downloads
from gateway.errors import StoreDamaged, StoreUnavailable, Unreadable
from gateway.model import ReplicaState
from gateway.ports import Finding
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.conftest import Bench

SIZE = 300_000
FAULTS = ("whole", "whole", "gone", "flipped", "cut", "short", "away")
WRONG = {
    "gone": ReplicaState.MISSING,
    "flipped": ReplicaState.DAMAGED,
    "short": ReplicaState.DAMAGED,
}


def broken(whole: FaultyStore, fault: str, dice: random.Random) -> FaultyStore:
    """Return a store that holds the same with something wrong."""
    store = FaultyStore()
    store._objects = dict(whole._objects)
    if fault == "gone":
        store._objects = {k: v for k, v in store._objects.items() if not k.endswith("body")}
    elif fault == "flipped":
        store.flip = dice.randrange(SIZE)
    elif fault in {"cut", "short"}:
        store.read_limit = dice.randrange(SIZE)
        store.read_fault = StoreUnavailable("cut") if fault == "cut" else StoreDamaged("short")
    elif fault == "away":
        store.read_limit, store.read_fault = 0, StoreUnavailable("away")
    return store


@pytest.mark.parametrize("seed", range(4))
async def test_a_read_is_right_as_long_as_one_target_is_whole(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    await bench.store(content := os.urandom(SIZE))
    found = await bench.catalog.find(bench.tenant, "report")
    whole = bench.primary
    for _ in range(40):
        faults = dict(zip(("primary", "east", "west"), dice.choices(FAULTS, k=3), strict=True))
        for name, fault in faults.items():
            setattr(bench, name, broken(whole, fault, dice))
        told: list[Finding] = []
        downloads = Downloads(
            bench.catalog,
            bench.keys,
            lambda: bench.targets,
            hedge_after=dice.choice([0.0, 0.001, 5.0]),
            report=told.append,
        )
        start = dice.randrange(SIZE)
        stop = dice.choice([SIZE, dice.randrange(start, SIZE) + 1])
        opened = await downloads.open(found, request_id="")
        got = b""
        try:
            async with aclosing(downloads.read(opened, start, stop)) as stream:
                async for piece in stream:
                    got += piece
        except Unreadable:
            assert "whole" not in faults.values(), faults
            assert content[start:stop].startswith(got)
        else:
            assert got == content[start:stop], faults
        for each in told:
            assert WRONG.get(faults[each.target]) is each.state, (faults, each)
