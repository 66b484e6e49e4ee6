"""What a read finds wrong with a replica is told in batches, once, and of the guilty one only."""

import asyncio
import os
from collections.abc import Sequence
from typing import cast

import pytest

from gateway.attachments.downloads import Downloads
from gateway.attachments.healing import Healing
from gateway.errors import CatalogUnavailable, ObjectMissing, StoreError, StoreUnavailable
from gateway.model import ReplicaState
from gateway.pacing.background import Background
from gateway.ports import Finding, Replicas
from tests.unit.gateway.conftest import PART, Bench


class Told:
    """Keeps what is reported; fails while `down`."""

    def __init__(self) -> None:
        self.batches: list[list[Finding]] = []
        self.down = False

    async def report(self, findings: Sequence[Finding]) -> int:
        if self.down:
            raise CatalogUnavailable("down")
        self.batches.append(list(findings))
        return len(findings)


def healing(told: Told, background: Background, **options: float) -> Healing:
    return Healing(cast("Replicas", told), background, delay=0.01, **options)  # type: ignore[arg-type]


def finding(version: str, target: str = "east") -> Finding:
    return Finding(version, target, ReplicaState.MISSING, "absent")


async def test_findings_go_in_one_batch_each_once(bench: Bench) -> None:
    told = Told()
    queue = healing(told, bench.background)
    for version in ("a", "b", "a", "c", "b"):
        queue.found(finding(version))
    await bench.background.settle()
    queue.found(finding("a"))
    queue.found(finding("a", "west"))
    await bench.background.settle()

    assert [[f.version for f in batch] for batch in told.batches] == [["a", "b", "c"], ["a"]]


async def test_after_a_while_the_same_is_told_again(bench: Bench) -> None:
    told = Told()
    queue = healing(told, bench.background, quiet=0.0)
    for _ in range(2):
        queue.found(finding("a"))
        await bench.background.settle()

    assert len(told.batches) == 2


async def test_the_queue_is_bounded(bench: Bench) -> None:
    told = Told()
    queue = healing(told, bench.background, most=3)
    for number in range(10):
        queue.found(finding(str(number)))
    await bench.background.settle()

    assert [len(batch) for batch in told.batches] == [3]


async def test_what_the_catalog_did_not_take_is_told_when_it_is_found_again(bench: Bench) -> None:
    told = Told()
    queue = healing(told, bench.background)
    told.down = True
    queue.found(finding("a"))
    await bench.background.settle()
    told.down = False
    queue.found(finding("a"))
    await bench.background.settle()

    assert told.batches == [[finding("a")]]


async def test_what_was_found_while_the_catalog_failed_is_told_when_it_is_found_again(
    bench: Bench,
) -> None:
    class Failing(Told):
        async def report(self, findings: Sequence[Finding]) -> int:
            if self.down:
                queue.found(finding("b"))
            return await super().report(findings)

    told = Failing()
    queue = healing(told, bench.background)
    told.down = True
    queue.found(finding("a"))
    await bench.background.settle()
    told.down = False
    queue.found(finding("b"))
    await bench.background.settle()

    assert told.batches == [[finding("b")]]


async def test_background_work_that_is_dropped_does_not_silence_the_queue() -> None:
    told = Told()
    async with Background(most=0) as full, Background() as free:
        queue = healing(told, full)
        queue.found(finding("a"))
        assert not queue._telling
        queue._background = free
        queue.found(finding("a"))
        await free.settle()

    assert told.batches == [[finding("a")]]


def reporting(bench: Bench) -> tuple[Downloads, list[Finding]]:
    found: list[Finding] = []
    return Downloads(bench.catalog, bench.keys, lambda: bench.targets, report=found.append), found


async def body(bench: Bench, downloads: Downloads) -> bytes:
    opened = await downloads.open(await bench.catalog.find(bench.tenant, "report"), request_id="")
    return b"".join([piece async for piece in downloads.read(opened, 0, opened.size)])


@pytest.mark.parametrize("where", [0, 40, PART + 17, 2 * PART])
async def test_a_flipped_byte_is_blamed_on_its_replica(bench: Bench, where: int) -> None:
    await bench.store(content := os.urandom(2 * PART))
    bench.primary.flip = where
    downloads, found = reporting(bench)

    assert await body(bench, downloads) == content

    (one,) = found
    assert (one.target, one.state, one.reason) == ("primary", ReplicaState.DAMAGED, "damaged")


async def test_an_absent_body_is_missing(bench: Bench) -> None:
    receipt = await bench.store(content := os.urandom(2 * PART))
    await bench.primary.delete(next(key for key in bench.primary.keys if key.endswith("body")))
    downloads, found = reporting(bench)

    assert await body(bench, downloads) == content

    assert found == [
        Finding(
            receipt.version.id, "primary", ReplicaState.MISSING, "absent", receipt.version.blob
        ),
    ]


async def test_a_store_that_does_not_answer_is_no_finding(bench: Bench) -> None:
    await bench.store(content := os.urandom(2 * PART))
    bench.primary.read_limit, bench.primary.read_fault = 100, StoreUnavailable("down")
    downloads, found = reporting(bench)

    assert await body(bench, downloads) == content
    assert found == []


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ObjectMissing()])
async def test_a_copy_that_counts_as_missing_is_tried_last_rather_than_never(
    bench: Bench, error: StoreError
) -> None:
    """Its backup came back with what the upload had to leave it without."""
    bench.west.fail = StoreUnavailable("down")
    receipt = await bench.store(content := os.urandom(2 * PART))
    for key in bench.east.keys:
        bench.west._objects[key] = bench.east._objects[key]
    downloads, found = reporting(bench)
    for store in (bench.primary, bench.east):
        store.read_limit, store.read_fault = 0, error

    async with asyncio.timeout(60):
        assert await body(bench, downloads) == content

    missing = {f.target for f in found}
    assert missing == ({"primary", "east"} if isinstance(error, ObjectMissing) else set())
    assert receipt.missed == {"west"}
