"""Copies of the catalog: sealed, verified, few, and only whole ones count."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime, timedelta

import pytest

from envelope.envelope import decode, encode
from gateway.attachments.tokens import Tokens
from gateway.errors import (
    CatalogConflict,
    CatalogUnavailable,
    Invalid,
    StoreDamaged,
    StoreUnavailable,
    Unreadable,
)
from gateway.model import SYSTEM, Right, body_key, envelope_key, new_id, now
from gateway.recovery import catalog_backup
from gateway.targets.quorum import QuorumLost
from tests.unit.gateway.conftest import PART
from tests.unit.gateway.recovery.conftest import Site


async def test_a_copy_is_the_catalog_again(site: Site) -> None:
    bench = site.bench
    await bench.store(b"small", "a")
    await bench.store(bytes(5000), "b")
    grant = await Tokens(bench.catalog).create(None, [Right.ADMIN], lifetime=timedelta(days=1))

    told: list[int] = []

    async def tell(progress: Mapping[str, int]) -> None:
        told.append(progress["read"])

    made = await site.backups().make(told=tell)

    assert made.stored == {"primary", "east", "west"}
    copied = told.pop()
    (copy,) = await site.backups().copies(site.east)
    assert (copy.taken, copy.size) == (made.taken, made.size)
    catalog = await site.new_catalog()
    rows = await site.backups(catalog).restore(site.east, copy, tell)
    assert told[-1] == copied > 0
    assert rows["versions"] == 2
    assert await Tokens(catalog).check(grant.text) == grant.token
    bench.catalog = catalog
    assert await bench.read("b") == bytes(5000)


async def test_stores_see_none_of_it(site: Site) -> None:
    await site.bench.store(b"content", "a-telling-reference")
    await site.backups().make()
    for key in site.bench.east.keys:
        assert b"a-telling-reference" not in await site.object(key)


async def test_the_reserved_tenant_is_no_tenant(site: Site) -> None:
    await site.backups().make()
    assert SYSTEM not in [t.id for t in await site.bench.catalog.tenants(None, 99)]


async def test_only_the_named_targets_take_it(site: Site) -> None:
    made = await site.backups().make(["west"])
    assert made.stored == {"west"}
    assert site.bench.east.keys == []
    with pytest.raises(Invalid, match="nowhere"):
        await site.backups().make(["nowhere"])


async def test_a_target_that_fails_is_named(site: Site) -> None:
    site.bench.west.fail = StoreUnavailable("gone")
    made = await site.backups().make()
    assert made.stored == {"primary", "east"}
    assert made.failed == {"west": "not stored"}
    site.bench.primary.fail = site.bench.east.fail = StoreUnavailable("gone")
    with pytest.raises(QuorumLost):
        await site.backups().make()


async def test_a_copy_that_reads_back_wrong_does_not_count(site: Site) -> None:
    site.bench.west.flip = 100
    made = await site.backups().make()
    assert made.failed == {"west": "StoreDamaged"}
    assert made.stored == {"primary", "east"}
    site.bench.west.flip = None
    await until(lambda: site.bench.west.keys == [])


async def test_a_copy_that_cannot_be_made_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = site.backups()

    async def cut_off() -> AsyncGenerator[bytes]:
        yield bytes(3 * PART)
        raise CatalogUnavailable("gone")

    monkeypatch.setattr(backups._dumps, "dump", cut_off)
    monkeypatch.setattr("zlib.compressobj", lambda **_: _Plain())
    with pytest.raises(CatalogUnavailable):
        await backups.make()
    await until(lambda: not any(store.keys or store.open_uploads for store in site.bench.stores))


class _Plain:
    """Compresses nothing, so that a part leaves."""

    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what goes on in the background."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - stores tell nobody
            await asyncio.sleep(0.01)


async def test_the_newest_stay(site: Site) -> None:
    backups = site.backups(keep=2)
    made = [await backups.make(["east"]) for _ in range(4)]
    assert [each.pruned for each in made] == [0, 0, 1, 1]
    copies = await backups.copies(site.east)
    assert [copy.taken for copy in copies] == [made[3].taken, made[2].taken]
    assert len(site.bench.east.keys) == 4
    at = made[2].taken + timedelta(microseconds=1)
    newest = await backups.newest(site.east, at=at)
    assert newest is not None
    assert newest.taken == made[2].taken
    assert await backups.newest(site.east, at=now() - timedelta(days=1)) is None


async def test_a_store_cannot_pass_off_something_else(site: Site) -> None:
    backups = site.backups()
    receipt = await site.bench.store(bytes(5000), "a")
    await backups.make(["east"])
    (copy,) = await backups.copies(site.east)
    ours = await site.envelope(copy.blob, SYSTEM)
    theirs = await site.envelope(receipt.version.blob)
    for envelope in (theirs, ours[:-1], b""):
        blob = new_id()
        await site.plant(envelope_key(SYSTEM, blob), envelope)
        await site.plant(body_key(SYSTEM, blob), b"")
    again = new_id()  # the same one twice is one
    await site.plant(envelope_key(SYSTEM, again), ours)
    await site.plant(body_key(SYSTEM, again), await site.object(body_key(SYSTEM, copy.blob)))
    await site.plant(envelope_key(SYSTEM, new_id()), encode(decode(ours)))  # without a body
    assert [each.taken for each in await backups.copies(site.east)] == [copy.taken]


@pytest.mark.parametrize("blob", ["", "README", "a/b", "A" * 32, "0" * 300])
async def test_objects_with_strange_names_hide_no_copy(site: Site, blob: str) -> None:
    made = await site.backups().make(["east"])
    for name in (body_key, envelope_key):
        site.bench.east.have(name(SYSTEM, blob), b"made by hand")
    assert [each.taken for each in await site.backups().copies(site.east)] == [made.taken]
    assert (await site.backups(keep=1).make(["east"])).pruned == 1


@pytest.mark.parametrize("damage", ["flip", "short", "long"])
async def test_a_damaged_copy_loads_nothing(site: Site, damage: str) -> None:
    await site.bench.store(bytes(5000), "a")
    await site.backups().make(["east"])
    (copy,) = await site.backups().copies(site.east)
    key = body_key(SYSTEM, copy.blob)
    body = bytearray(await site.object(key))
    if damage == "flip":
        body[len(body) // 2] ^= 1
    await site.plant(key, bytes(body[:-1] if damage == "short" else body))
    if damage == "long":
        await site.plant(key, bytes(body) + b"\0")
    catalog = await site.new_catalog()
    if damage == "long":  # what is behind the body is not even read
        await site.backups(catalog).restore(site.east, copy)
        return
    with pytest.raises((Unreadable, StoreDamaged)):
        await site.backups(catalog).restore(site.east, copy)
    assert await catalog.recovery.empty()
    assert await catalog.tenants(None, 9) == []


async def test_a_catalog_in_use_takes_no_copy(site: Site) -> None:
    await site.backups().make(["east"])
    (copy,) = await site.backups().copies(site.east)
    with pytest.raises(CatalogConflict):
        await site.backups().restore(site.east, copy)


@pytest.mark.parametrize("days", [400, -400])
async def test_a_clock_that_jumps_costs_no_copy(
    site: Site, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    def jumped() -> datetime:
        return now() + timedelta(days=days)

    await site.backups().make()
    with monkeypatch.context() as patch:
        patch.setattr(catalog_backup, "now", jumped)
        made = await site.backups(keep=1).make()
        taken = {copy.taken for copy in await site.backups().copies(site.east)}
        assert made.taken in taken  # what was just told to be stored
    last = await site.backups(keep=1).make()
    assert [copy.taken for copy in await site.backups().copies(site.east)] == [last.taken]
