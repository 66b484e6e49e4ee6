"""A page of many attachments: whole, and in turns with everybody else."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.attachments.listing import Listing
from gateway.model import Found
from tests.unit.gateway.conftest import Bench


async def test_others_run_while_a_page_is_opened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.store(b"content", "report")
    found = await bench.catalog.find(bench.tenant, "report")

    async def many(*_: object) -> Sequence[Found]:
        return [found] * 320

    monkeypatch.setattr(bench.catalog, "list", many)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    await bench.catalog.tenant(bench.tenant)
    async with asyncio.TaskGroup() as group:
        counter = group.create_task(count())
        monkeypatch.setattr(bench.catalog, "tenant", many)  # without waiting for a thread
        page = await Listing(bench.catalog, bench.keys).page(bench.tenant, limit=320)
        counter.cancel()

    assert [row.error for row in page.rows] == [None] * 320
    assert turns > 320 // 32
