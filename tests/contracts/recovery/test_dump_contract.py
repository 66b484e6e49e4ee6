"""What `Dumps` promises: the same rows from either database into either, or nothing."""

from contextlib import aclosing
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from sqlalchemy import select

from gateway.catalog import SqlCatalog, tables
from gateway.catalog.dump import PAGE
from gateway.errors import CatalogConflict, Unreadable
from gateway.model import Retention, Tenant, Token, Version, new_id
from gateway.ports import Recovered, RunState
from tests.contracts.catalog.samples import (
    ANY,
    START,
    FakeClock,
    Time,
    new_operation,
    new_upload,
    put,
)
from tests.contracts.recovery.dumps import Fresh, again, taken


async def rows(catalog: SqlCatalog) -> dict[str, list[Any]]:
    """Return every row of every table."""
    return await catalog._database.read(
        lambda c: {
            each.name: sorted((tuple(row) for row in c.execute(select(each))), key=repr)
            for each in tables.metadata.sorted_tables
        }
    )


async def fill(catalog: SqlCatalog, count: int = 3) -> str:
    """Put something into most tables; return the tenant."""
    tenant = Tenant(new_id(), "business", START)
    await catalog.add_tenant(tenant)
    await catalog.add_token(Token(new_id()[:16], b"\0hash", tenant.id, frozenset(), START, None))
    for number in range(count):
        await put(catalog, tenant.id, f"réf/{number}")
    await put(catalog, tenant.id, "réf/0")
    await catalog.trash(tenant.id, "réf/1", ANY)
    await catalog.begin(new_upload(tenant.id), "pending")
    await catalog.claim(new_operation(tenant.id), START - START)
    await catalog.bin.retain(tenant.id, Retention(timedelta(days=9), 3, timedelta(days=4), START))
    await catalog.bin.tick(timedelta(seconds=1), new_id())
    run = await catalog.runs.claim(
        "scrub", "east", holder=new_id(), every=timedelta(), lease=timedelta()
    )
    assert run is not None
    await catalog.runs.end(run, RunState.DONE, {"found": 3})
    return tenant.id


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
async def test_a_dump_is_the_same_catalog(catalog: SqlCatalog, fresh: Fresh, to: str) -> None:
    tenant = await fill(catalog, PAGE + 2)
    await catalog.placements.promote("east", epoch=0)
    pieces = await taken(catalog)
    other = await fresh(to)

    counts = await other.dumps.load(again(pieces, 977))

    assert await rows(other) == await rows(catalog)
    assert counts["attachments"] == PAGE + 3
    found = await other.find(tenant, "réf/0")
    assert found == await catalog.find(tenant, "réf/0")


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
async def test_a_loaded_dump_purges_nothing_before_all_of_its_time_has_passed_again(
    catalog: SqlCatalog, clock: FakeClock, fresh: Fresh, to: str
) -> None:
    """It may have been brought back since the dump was taken."""
    tenant = await fill(catalog)
    month = timedelta(days=31)
    await catalog.bin.retain(tenant, Retention(timedelta(days=30), 0))
    for _ in range(2):  # the first time another ticker takes over
        await Time(catalog, clock).passes(month)
    other = await fresh(to)
    await other.dumps.load(again(await taken(catalog)))

    assert await other.bin.doom(9) == 0
    assert await catalog.bin.doom(9) == 2  # the one in the trash, and the one that was replaced
    await Time(other, clock).passes(month)
    assert await other.bin.doom(9) == 2


async def test_a_dump_is_of_one_moment(catalog: SqlCatalog, fresh: Fresh) -> None:
    tenant = await fill(catalog)
    pieces = []
    async with aclosing(catalog.dumps.dump()) as stream:
        async for piece in stream:
            pieces.append(piece)
            await put(catalog, tenant, f"later {len(pieces)}")
    other = await fresh("sqlite")
    await other.dumps.load(again(pieces))
    assert len(await other.list(tenant, "", None, 99)) == 2


async def test_only_an_empty_catalog_takes_one(catalog: SqlCatalog) -> None:
    await fill(catalog)
    pieces = await taken(catalog)
    before = await rows(catalog)
    with pytest.raises(CatalogConflict, match="not empty"):
        await catalog.dumps.load(again(pieces))
    assert await rows(catalog) == before


async def test_what_is_no_whole_dump_leaves_nothing(catalog: SqlCatalog, fresh: Fresh) -> None:
    await fill(catalog)
    pieces = await taken(catalog)
    other = await fresh("sqlite")
    untouched = await rows(other)
    newer = cbor2.dumps(["sealgate catalog", 1, "9999", 0])
    head = b"\x5a" + len(newer).to_bytes(4, "big") + newer
    for wrong in (
        pieces[:-1],
        pieces[1:],
        [*pieces[:-1], pieces[-1][:-1]],
        [*pieces, pieces[-1]],
        [pieces[0], *pieces[2:]],
        [head, *pieces[1:]],
        [b"\x5a\xff\xff\xff\xff"],
        [b"\x5a\0\0\0\1\xff"],
        [b"no dump at all"],
    ):
        with pytest.raises((Unreadable, CatalogConflict)):
            await other.dumps.load(again(list(wrong)))
        assert await rows(other) == untouched
    await other.dumps.load(again(pieces))


async def test_a_reader_that_leaves_gives_the_connection_back(catalog: SqlCatalog) -> None:
    await fill(catalog)
    for _ in range(3):
        async with aclosing(catalog.dumps.dump()) as stream:
            await anext(stream)
    await fill(catalog)


async def test_work_that_was_under_way_is_not_when_it_is_loaded(
    catalog: SqlCatalog, fresh: Fresh
) -> None:
    lease = timedelta(days=1)
    await catalog.runs.claim("catalog-backup", "", holder="a", every=lease, lease=lease)
    other = await fresh("sqlite")
    await other.runs.claim("rebuild", "east", holder="b", every=lease, lease=lease)
    await other.dumps.load(again(await taken(catalog)))
    assert [run.kind for run in await other.runs.history()] == ["rebuild"]


async def test_a_dump_of_much_comes_in_small_pieces(catalog: SqlCatalog, fresh: Fresh) -> None:
    tenant = await fill(catalog)
    body, found = bytes(64 * 1024), []
    for number in range(4 * PAGE):
        ids = [new_id() for _ in range(3)]
        version = Version(ids[0], ids[1], tenant, ids[2], START, 1, 0, b"envelope", "k1", body)
        found.append(Recovered(version, f"inline/{number}"))
    await catalog.recovery.add([], found, "east")
    await catalog.recovery.settle()
    pieces = await taken(catalog)
    assert sum(map(len, pieces)) > len(found) * len(body)
    assert max(map(len, pieces)) < 2 * PAGE * len(body)
    other = await fresh("sqlite")
    assert (await other.dumps.load(again(pieces)))["versions"] == len(found) + 4
