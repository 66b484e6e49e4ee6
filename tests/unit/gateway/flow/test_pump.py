"""Any split of writes gives the same content; parts are equal; inline is exact at its limit."""

import asyncio
import os
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.segment import sealed_size
from gateway.attachments.uploads import Draft
from gateway.errors import Busy, Disconnected, GatewayError
from gateway.flow.buffers import Pool
from gateway.flow.pump import MAX_PARTS, SPARE, MiB, PumpSettings
from tests.unit.gateway.conftest import PART, Bench, pieces

TiB = 1024 * 1024 * MiB


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 3 * PART // 2), max_size=6), data=st.data())
async def test_any_split_of_writes_comes_back_whole(
    bench: Bench, sizes: list[int], data: st.DataObject
) -> None:
    content = [os.urandom(size) for size in sizes]

    async def source() -> AsyncGenerator[bytes]:
        for piece in content:
            yield piece

    await bench.uploads.store(Draft(bench.tenant, "report"), source())

    whole = b"".join(content)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert await bench.read(start=start, stop=stop) == whole[start:stop]


async def test_parts_are_equal_but_the_last(bench: Bench) -> None:
    content = os.urandom(5 * PART + 5)

    await bench.store(content, step=50_001)

    assert bench.primary.sizes[:-1] == [PART] * 5
    assert sum(bench.primary.sizes) == sealed_size(len(content))


@pytest.mark.parametrize("step", [4096, 50_001, 8 * PART])
@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (PART - 1000, 1),
        (PART, 1),  # its ciphertext is larger than a part, by what fits into the slack
        (PART + SPARE - 1000, 1),
        (PART + SPARE, 2),
        (5 * PART, 5),
        (5 * PART + SPARE, 6),
    ],
)
async def test_a_declared_body_leaves_no_part_of_next_to_nothing(
    bench: Bench, size: int, parts: int, step: int
) -> None:
    content = os.urandom(size)

    await bench.uploads.store(Draft(bench.tenant, "r", length=size), pieces(content, step))

    sent = bench.primary.sizes or [sealed_size(size)]  # one alone is put whole, not as a part
    assert sum(sent) == sealed_size(size)
    assert sent[:-1] == [PART] * (parts - 1)
    assert await bench.read("r") == content


async def test_a_body_longer_than_declared_is_refused(bench: Bench) -> None:
    content = bytes(3 * PART)

    with pytest.raises(Disconnected):
        await bench.uploads.store(Draft(bench.tenant, "r", length=PART), pieces(content, 2 * PART))


@pytest.mark.parametrize(("over", "inline"), [(0, True), (1, False)])
async def test_a_body_up_to_the_limit_travels_inline(
    bench: Bench, over: int, *, inline: bool
) -> None:
    content = os.urandom(bench.inline + over)

    receipt = await bench.store(content)

    assert (receipt.version.body_size == 0) is inline
    assert await bench.read() == content


@pytest.mark.parametrize("declared", [0, 8 * MiB, 100 * 1024 * MiB, TiB])
def test_declared_lengths_fit_into_the_parts_a_store_takes(declared: int) -> None:
    part = PumpSettings().part(1, declared)

    assert part * MAX_PARTS >= sealed_size(declared)
    assert part <= 128 * MiB


def test_unknown_lengths_reach_a_tebibyte_within_the_parts_a_store_takes() -> None:
    reached = sum(PumpSettings().part(number, None) for number in range(1, MAX_PARTS + 1))

    assert reached >= sealed_size(TiB)
    assert PumpSettings().part(2000, None) == 8 * MiB


async def test_a_small_buffer_takes_no_part_of_the_memory_for_parts() -> None:
    pool = Pool(PART, PART)
    held = await pool.draw(PART, "a")

    assert len(await pool.draw(PART // 2, "b")) < 2 * PART  # at once, though the budget is spent
    pool.put_back(held, "a", tainted=False)
    assert pool.idle == 1


async def test_memory_for_parts_is_waited_for_and_then_refused() -> None:
    pool = Pool(PART, 2 * PART, patience=0.05)
    first, _ = await pool.draw(PART, "a"), await pool.draw(PART, "b")

    with pytest.raises(Busy, match="memory"):
        await pool.draw(PART, "c")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pool.draw(PART, "c"))
        await asyncio.sleep(0)
        pool.put_back(first, "a", tainted=True)

    assert waiting.result() is not first


async def test_one_tenant_cannot_hold_all_the_memory_for_parts() -> None:
    pool = Pool(PART, 4 * PART, patience=0.05)
    await pool.draw(PART, "greedy")
    await pool.draw(PART, "greedy")

    with pytest.raises(Busy):
        await pool.draw(PART, "greedy")
    await pool.draw(PART, "modest")


async def test_two_tenants_cannot_hold_all_the_memory_for_parts_either() -> None:
    """Slow uploads keep their parts for as long as they fill; what others send has to find room."""
    pool = Pool(PART, 16 * PART, patience=0)
    for owner, share in (("slow", 8), ("slower", 4), ("third", 2)):
        for _ in range(share):
            await pool.draw(PART, owner)
        with pytest.raises(Busy):
            await pool.draw(PART, owner)

    await pool.draw(PART, "quick")


@pytest.mark.parametrize("fault", ["source", "digest", "cancel", "oversize", "short"])
async def test_a_broken_upload_gives_its_memory_back(bench: Bench, fault: str) -> None:
    async def source() -> AsyncGenerator[bytes]:
        for _ in range(20):
            yield bytes(65536)
        if fault == "source":
            raise Disconnected("gone")
        if fault == "cancel":
            await asyncio.sleep(60)

    bench.max_size = 19 * 65536 if fault == "oversize" else bench.max_size
    draft = Draft(
        bench.tenant,
        "r",
        digests={"sha-256": bytes(32)} if fault == "digest" else {},
        length=21 * 65536 if fault == "short" else None,
    )

    with pytest.raises((GatewayError, TimeoutError)):
        async with asyncio.timeout(0.3 if fault == "cancel" else 10):
            await bench.uploads.store(draft, source())

    await bench.background.settle()
    assert bench.pool._out.total() == 0
