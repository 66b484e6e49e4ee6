"""A reseal beside others: those who reseal, purge and read the same version."""

import asyncio
import os
from contextlib import aclosing

import pytest

from gateway.model import Precondition, Version, now
from gateway.rotation.reseal import Outcome
from tests.doubles.resealing import LATER, blobs, reseal, resealer
from tests.unit.gateway.conftest import PART, Bench


async def test_two_at_once(bench: Bench) -> None:
    content = os.urandom(2 * PART)
    receipt = await bench.store(content)
    ends = await asyncio.gather(*(reseal(bench, receipt.version) for _ in range(3)))
    assert sorted(ends) == sorted([Outcome.RESEALED, Outcome.OVERTAKEN, Outcome.OVERTAKEN])
    found = await bench.catalog.find(bench.tenant, "report")
    assert blobs(bench) == {receipt.version.blob, found.version.blob}
    assert await bench.read() == content


async def test_a_version_that_is_purged_meanwhile_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = await bench.store(os.urandom(2 * PART))
    switch = bench.catalog.wraps.switch

    async def late(*words: object) -> bool:
        gone = await bench.catalog.trash(bench.tenant, "report", Precondition())
        await bench.catalog.bin.doom_now(bench.tenant, gone.id)
        return await switch(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.catalog.wraps, "switch", late)
    assert await reseal(bench, receipt.version) is Outcome.GONE
    assert blobs(bench) == {receipt.version.blob}
    assert await reseal(bench, receipt.version) is Outcome.GONE


async def test_a_blob_that_takes_long_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = await bench.store(os.urandom(4 * PART))
    intended, often = 0, asyncio.Event()
    intend = bench.catalog.wraps.intend

    async def counted(version: Version, blob: str, kek: str) -> bool:
        nonlocal intended
        intended += 1
        if intended == 3:
            often.set()
        return await intend(version, blob, kek)

    monkeypatch.setattr(bench.catalog.wraps, "intend", counted)
    bench.patience = 60.0
    bench.west.gate.clear()
    slow = resealer(bench, beat=0.01)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            slow.version(bench.tenant, receipt.version.id, before=now() + LATER)
        )
        await often.wait()
        bench.west.gate.set()
    assert task.result() is Outcome.RESEALED


async def test_a_reader_of_the_old_blob_finishes(bench: Bench) -> None:
    content = os.urandom(4 * PART)
    receipt = await bench.store(content)
    opened = await bench.downloads.open(
        await bench.catalog.find(bench.tenant, "report"), request_id=""
    )
    async with aclosing(bench.downloads.read(opened, 0, opened.size)) as stream:
        begun = await anext(stream)
        assert await reseal(bench, receipt.version) is Outcome.RESEALED
        rest = [piece async for piece in stream]
    assert begun + b"".join(rest) == content
