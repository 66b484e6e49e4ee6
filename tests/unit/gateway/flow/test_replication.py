"""One ciphertext to many targets: quorum, back-pressure, slow and dead targets, order of writes."""

import asyncio
import os
from collections.abc import AsyncGenerator

import pytest

from gateway.attachments.uploads import Draft
from gateway.errors import StoreFull, StoreUnavailable
from gateway.model import ReplicaState
from gateway.ports import PartUpload
from gateway.targets.quorum import Quorum, QuorumLost
from tests.unit.gateway.conftest import PART, Bench


async def test_every_target_gets_the_same_ciphertext(bench: Bench) -> None:
    await bench.store(os.urandom(3 * PART + 17))

    kept = [{key: store._objects[key].data for key in store.keys} for store in bench.stores]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 2


async def test_a_body_of_one_part_is_one_put(bench: Bench) -> None:
    await bench.store(os.urandom(PART // 2))

    assert bench.primary.calls == ["put body", "put envelope"]


async def test_a_small_body_is_one_request_in_all(bench: Bench) -> None:
    await bench.store(b"x" * bench.inline)

    assert bench.primary.calls == ["put envelope"]


async def test_the_envelope_is_written_only_behind_a_complete_body(bench: Bench) -> None:
    await bench.store(os.urandom(4 * PART))

    for store in bench.stores:
        assert store.calls[0] == "begin"
        assert store.calls[-2:] == ["complete", "put envelope"]


async def test_a_dead_backup_is_recorded_as_missing(bench: Bench) -> None:
    bench.west.fail = StoreUnavailable("down")

    receipt = await bench.store(os.urandom(3 * PART))

    assert receipt.stored == {"primary", "east"}
    found = await bench.catalog.find(bench.tenant, "report")
    assert found.replicas["west"] is ReplicaState.MISSING
    assert found.replicas["east"] is ReplicaState.STORED


@pytest.mark.parametrize("fail_on", ["begin", "part 2", "complete", "put envelope"])
async def test_without_the_primary_nothing_is_acknowledged_or_left(
    bench: Bench, fail_on: str
) -> None:
    bench.primary.fail, bench.primary.fail_on = StoreUnavailable("down"), fail_on

    with pytest.raises(QuorumLost, match="primary"):
        await bench.store(os.urandom(5 * PART))

    bench.primary.fail = None
    await bench.background.settle()
    for store in bench.stores:
        assert store.keys == []
        assert store.open_uploads == 0
    assert await bench.catalog.list(bench.tenant, "", None, 10) == []


async def test_two_dead_backups_lose_the_quorum(bench: Bench) -> None:
    bench.east.fail = bench.west.fail = StoreUnavailable("down")

    with pytest.raises(QuorumLost, match="east, west"):
        await bench.store(os.urandom(PART))


async def test_a_full_primary_says_that_there_is_no_room(bench: Bench) -> None:
    bench.primary.fail = StoreFull("no room")

    with pytest.raises(StoreFull, match="make room"):
        await bench.store(os.urandom(PART))


async def test_a_hanging_backup_holds_the_client_no_longer_than_its_patience(bench: Bench) -> None:
    bench.patience = 0.5
    bench.west.gate.clear()

    async with asyncio.timeout(60):
        receipt = await bench.store(os.urandom(12 * PART))

    assert receipt.stored == {"primary", "east"}
    await bench.background.settle()
    assert bench.west.open_uploads == 0


async def test_a_hanging_backup_that_the_quorum_needs_is_waited_for(bench: Bench) -> None:
    bench.quorum, bench.patience = Quorum(backups=2), 0.2
    bench.west.gate.clear()

    async with asyncio.TaskGroup() as group:
        stored = group.create_task(bench.store(os.urandom(6 * PART)))
        await asyncio.sleep(3 * bench.patience)
        assert not stored.done()
        bench.west.gate.set()

    assert stored.result().stored == {"primary", "east", "west"}


async def test_a_stalled_primary_stops_the_client_within_the_window(bench: Bench) -> None:
    taken = 0

    async def source() -> AsyncGenerator[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 65536
            yield bytes(65536)

    bench.patience = 0.2
    bench.primary.gate.clear()
    async with asyncio.TaskGroup() as group:
        upload = group.create_task(bench.uploads.store(Draft(bench.tenant, "r"), source()))
        await asyncio.sleep(3 * bench.patience)
        assert taken <= bench.window * PART + 2 * 65536
        bench.primary.gate.set()

    assert upload.result().version.size == 64 * 65536


async def test_cancelling_removes_what_was_written(bench: Bench) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield bytes(65536)
            await asyncio.sleep(0.001)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bench.uploads.store(Draft(bench.tenant, "gone"), endless())

    await bench.background.settle()
    for store in bench.stores:
        assert store.keys == []
        assert store.open_uploads == 0


async def test_buffers_are_reused_and_never_after_a_failure(bench: Bench) -> None:
    replication = bench.replication
    bench.west.fail, bench.west.fail_on = StoreUnavailable("down"), "part"
    async with replication.fan(bench.tenant, "0" * 32, bench.quorum) as fan:
        for _ in range(6):
            load = await fan.take(PART)
            load.used = PART
            fan.send(load)
            await asyncio.sleep(0.01)
        pooled = replication.pool.idle

    # The first buffer failed on one target, whose transport may still read it.
    assert 0 < pooled < 3


async def test_a_lane_leaves_what_it_was_refused_to_create(bench: Bench) -> None:
    """Two targets on one bucket by mistake: the second must not remove what the first wrote."""
    bench.west = bench.primary

    receipt = await bench.store(content := os.urandom(2 * PART))

    await bench.background.settle()
    assert receipt.stored >= {"east"}
    assert await bench.read() == content
    assert len(bench.primary.keys) == 2


async def test_what_a_let_go_target_had_got_is_left_for_repair(bench: Bench) -> None:
    """Removing it later could remove what the repairer has made of it meanwhile."""
    bench.west.fail, bench.west.fail_on = StoreUnavailable("down"), "put envelope"

    await bench.store(os.urandom(2 * PART))

    await bench.background.settle()
    assert [key.rsplit("/", 1)[1] for key in bench.west.keys] == ["body"]
    assert bench.west.open_uploads == 0
    assert not [call for call in bench.west.calls if call.startswith("delete")]


async def test_a_defect_in_one_target_is_not_the_others(bench: Bench) -> None:
    async def broken(key: str) -> PartUpload:
        raise RuntimeError(key)

    bench.west.begin = broken  # type: ignore[method-assign]

    receipt = await bench.store(os.urandom(3 * PART))

    assert receipt.stored == {"primary", "east"}


@pytest.mark.parametrize(
    ("policy", "down"),
    [
        ("majority", "east west"),
        ("all", "west"),
        ("primary+1,regions:2", "east"),
        ("primary,majority", "primary"),
    ],
)
async def test_a_policy_says_who_is_needed(bench: Bench, policy: str, down: str) -> None:
    bench.quorum = Quorum.parse(policy)
    for name in down.split():
        getattr(bench, name).fail = StoreUnavailable("down")

    with pytest.raises(QuorumLost, match=down.replace(" ", ", ")):
        await bench.store(os.urandom(2 * PART))


@pytest.mark.parametrize(
    ("policy", "down"),
    [
        ("primary", "east west"),
        ("majority", "primary"),
        ("regions:2", "primary"),
        ("primary,regions:2", "west"),
    ],
)
async def test_a_policy_says_who_is_not(bench: Bench, policy: str, down: str) -> None:
    bench.quorum = Quorum.parse(policy)
    for name in down.split():
        getattr(bench, name).fail = StoreUnavailable("down")

    receipt = await bench.store(os.urandom(2 * PART))

    assert receipt.missed == set(down.split())
    assert not receipt.degraded


async def test_a_policy_that_these_targets_never_reach(bench: Bench) -> None:
    bench.quorum = Quorum.parse("regions:3")

    with pytest.raises(QuorumLost, match="cannot satisfy the policy regions:3"):
        await bench.store(b"x")


async def test_a_degraded_acknowledgement_where_it_is_allowed(bench: Bench) -> None:
    bench.degraded, bench.primary.fail = True, StoreUnavailable("down")

    receipt = await bench.store(content := os.urandom(3 * PART))

    assert receipt.degraded
    assert receipt.stored == {"east", "west"}
    assert await bench.read() == content


async def test_a_degraded_upload_waits_for_who_is_left(bench: Bench) -> None:
    """With the quorum out of reach the others have their chance, not the first of them alone."""
    bench.degraded, bench.primary.fail = True, StoreUnavailable("down")
    bench.patience = 0.5
    bench.west.gate.clear()

    async with asyncio.timeout(60):
        receipt = await bench.store(os.urandom(3 * PART))

    assert receipt.degraded
    assert receipt.stored == {"east"}


async def test_degraded_or_not_somebody_must_hold_it(bench: Bench) -> None:
    bench.degraded = True
    for store in bench.stores:
        store.fail = StoreUnavailable("down")

    with pytest.raises(QuorumLost, match="east, primary, west"):
        await bench.store(os.urandom(2 * PART))
