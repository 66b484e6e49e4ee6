"""Another primary while uploads run: who counts, whose epoch a commit carries, and what is refused."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.attachments.uploads import Draft, Receipt, Uploads
from gateway.errors import CatalogConflict, StoreUnavailable
from gateway.model import ReplicaState, Version
from gateway.ports import Finding, Placement
from gateway.targets.failover import Failover, Refused
from gateway.targets.placing import Placing, placed
from gateway.targets.quorum import Quorum, QuorumLost, Role
from tests.unit.gateway.conftest import PART, Bench, pieces


async def put(bench: Bench, uploads: Uploads, reference: str = "report") -> Receipt:
    return await uploads.store(Draft(bench.tenant, reference), pieces(os.urandom(2 * PART)))


def failover(bench: Bench) -> Failover:
    return Failover(bench.catalog.placements, bench.catalog.replicas, bench.targets, patience=0.2)


class Down:
    """Makes a store fail whatever it is asked."""

    def __init__(self, bench: Bench, *names: str) -> None:
        self.stores = [getattr(bench, name) for name in names]
        for store in self.stores:
            store.fail, store.check = StoreUnavailable("down"), self._check

    async def _check(self) -> None:
        raise StoreUnavailable("down")

    def back(self) -> None:
        """Let it work again."""
        for store in self.stores:
            store.fail = None
            del store.check


def test_a_promoted_target_is_the_primary_and_comes_first(bench: Bench) -> None:
    targets = placed(bench.targets, Placement(3, "west", None))
    assert [(t.name, t.role) for t in targets] == [
        ("west", Role.PRIMARY),
        ("primary", Role.BACKUP),
        ("east", Role.BACKUP),
    ]


def test_a_decision_for_an_unknown_target_leaves_no_primary(bench: Bench) -> None:
    targets = placed(bench.targets, Placement(3, "moon", None))
    assert {t.role for t in targets} == {Role.BACKUP}
    assert not Quorum(backups=0).satisfied(targets, {t.name for t in targets})


async def test_what_the_catalog_said_last_holds(bench: Bench) -> None:
    """It may have been brought back from a copy, and know less than before."""
    told = [Placement(2, "east", None), Placement(1, "west", None)]

    class Told:
        async def placement(self) -> Placement:
            return told.pop(0)

        async def promote(self, primary: str | None, *, epoch: int) -> Placement:
            raise NotImplementedError

    placing = Placing(Told(), bench.targets)
    await placing.refresh()
    assert (await placing.refresh()).primary == "west"
    assert placing.now.epoch == 1


async def test_after_a_promotion_uploads_need_the_new_primary_only(bench: Bench) -> None:
    Down(bench, "primary")
    placing = bench.placing
    uploads = bench.uploads_under(placing)
    with pytest.raises(QuorumLost, match="failed: primary"):
        await put(bench, uploads)

    await failover(bench).promote("east")
    await placing.refresh()

    receipt = await put(bench, uploads)
    assert receipt.stored == {"east", "west"}
    assert receipt.missed == {"primary"}
    assert not receipt.degraded


async def test_an_upload_by_an_older_quorum_is_judged_anew(bench: Bench) -> None:
    """All three hold it, so it is enough under the new primary as well."""
    placing = bench.placing
    await failover(bench).promote("west")

    receipt = await put(bench, bench.uploads_under(placing))

    assert receipt.stored == {"primary", "east", "west"}
    assert placing.now.epoch == 1


async def test_an_upload_that_the_new_primary_does_not_hold_is_not_acknowledged(
    bench: Bench,
) -> None:
    placing = bench.placing
    await failover(bench).promote("west")
    bench.west.fail = StoreUnavailable("down")

    with pytest.raises(QuorumLost, match="another target became the primary"):
        await put(bench, bench.uploads_under(placing))

    await bench.background.settle()
    assert await bench.catalog.list(bench.tenant, "", None, 9) == []
    assert bench.primary.keys == bench.east.keys == []


async def test_an_upload_that_runs_goes_on_under_the_new_primary(bench: Bench) -> None:
    """The primary dies in the middle of it, and the decision comes before it gave up."""
    placing, half = bench.placing, asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        yield os.urandom(PART)
        half.set()
        yield os.urandom(6 * PART)

    bench.patience = 0.2
    bench.primary.gate.clear()  # it hangs: neither an answer nor an error
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        uploads = bench.uploads_under(placing)
        running = group.create_task(uploads.store(Draft(bench.tenant, "report"), source()))
        await half.wait()
        await failover(bench).promote("east")
        await placing.refresh()

    assert running.result().stored == {"east", "west"}


async def test_a_promotion_is_refused_while_something_would_be_lost(bench: Bench) -> None:
    bench.quorum = Quorum(backups=0)
    bench.east.fail = bench.west.fail = StoreUnavailable("behind")
    lost = await put(bench, bench.uploads, "lost")
    bench.east.fail = bench.west.fail = None
    await put(bench, bench.uploads, "kept")
    down = Down(bench, "primary")
    over = failover(bench)

    assert [each.id for each in (await over.outlook()).at_risk] == [lost.version.id]
    with pytest.raises(Refused, match="1 versions are held only by targets that do not answer"):
        await over.promote("east")
    assert (await bench.catalog.placements.placement()).epoch == 0

    outlook = await over.promote("east", accept_loss=True)
    assert outlook.primary == "east"
    assert [each.id for each in outlook.at_risk] == [lost.version.id]

    down.back()
    assert (await over.outlook()).at_risk == ()


async def test_what_is_whole_in_the_catalog_is_not_at_risk(bench: Bench) -> None:
    bench.quorum = Quorum(backups=0)
    bench.east.fail = bench.west.fail = StoreUnavailable("behind")
    await bench.store(b"small")
    bench.east.fail = bench.west.fail = None
    Down(bench, "primary")

    assert (await failover(bench).outlook()).at_risk == ()


async def test_a_damaged_copy_holds_nothing(bench: Bench) -> None:
    receipt = await put(bench, bench.uploads)
    Down(bench, "primary", "west")
    finding = Finding(receipt.version.id, "east", ReplicaState.DAMAGED, "flipped")
    await bench.catalog.replicas.report([finding])

    assert [each.id for each in (await failover(bench).outlook()).at_risk] == [receipt.version.id]


async def test_what_cannot_be_promoted(bench: Bench) -> None:
    over = failover(bench)
    Down(bench, "west")
    for name, why in (
        ("primary", "is the primary already"),
        ("west", "does not answer"),
        ("moon", "no target moon: name one of east, primary, west"),
    ):
        with pytest.raises(Refused, match=why):
            await over.promote(name)


async def test_the_way_back_waits_until_nothing_is_missing(bench: Bench) -> None:
    over, placing = failover(bench), bench.placing
    with pytest.raises(Refused, match="primary already"):
        await over.demote()
    down = Down(bench, "primary")
    await over.promote("east")
    await placing.refresh()
    receipt = await put(bench, bench.uploads_under(placing))
    with pytest.raises(Refused, match="does not answer"):
        await over.demote()
    down.back()
    with pytest.raises(Refused, match="still misses 1 versions"):
        await over.demote()

    stored = Finding(receipt.version.id, "primary", ReplicaState.STORED)
    await bench.catalog.replicas.report([stored])
    outlook = await over.demote()

    assert (outlook.primary, outlook.placement.epoch) == ("primary", 2)


async def test_two_decisions_at_once_are_one(bench: Bench) -> None:
    placements = bench.catalog.placements
    await placements.promote("east", epoch=0)
    with pytest.raises(CatalogConflict):
        await placements.promote("west", epoch=0)


async def test_whatever_is_committed_after_a_promotion_is_held_by_its_primary(
    bench: Bench,
) -> None:
    """Gateways that hear of no decision store on stores that come and go, while others decide."""
    dice, names, decided = random.Random(5), ("primary", "east", "west"), ["primary"]
    due = ["primary"]  # who is the primary, or is about to be
    might: dict[str, set[str]] = {}  # version: who was the primary while it was committed

    commit = bench.catalog.commit

    async def noted(version: Version, *rest: Any, **options: Any) -> None:
        begun = len(decided) - 1
        await commit(version, *rest, **options)
        might[version.id] = set(due[begun:])

    bench.catalog.commit = noted  # type: ignore[method-assign]
    receipts: list[Receipt] = []

    async def gateway(number: int) -> None:
        uploads = bench.uploads_under(bench.placing)
        for turn in range(6):
            with contextlib.suppress(QuorumLost):
                receipts.append(await put(bench, uploads, f"r{number}-{turn}"))

    async def decide() -> None:
        for epoch in range(6):
            await asyncio.sleep(0.05)
            name = dice.choice([each for each in names if each != decided[-1]])
            due.append(name)
            await bench.catalog.placements.promote(name, epoch=epoch)
            decided.append(name)
            away = getattr(bench, dice.choice(names))
            away.fail = None if away.fail else StoreUnavailable("down")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(decide())
        for number in range(4):
            group.create_task(gateway(number))

    assert receipts
    assert all(might[r.version.id] & r.stored for r in receipts)
