"""The shred ledger in every target, and back from any of them."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.model import new_id
from gateway.ports import Shred
from gateway.shredding.ledger_copies import PREFIX, LedgerCopies
from gateway.targets.quorum import Role, Target
from tests.doubles.blobs import piece
from tests.doubles.shred_keys import LedgerKeys, ledger_keys
from tests.doubles.shreds import MemoryShreds
from tests.doubles.stores import FaultyStore

TENANTS = sorted(new_id() for _ in range(5))


class Site:
    """One key service, one catalog and two targets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = ledger_keys(folder)
        self.stores = [FaultyStore(), FaultyStore()]
        self.shreds = MemoryShreds({tenant: Shred() for tenant in TENANTS})

    @property
    def targets(self) -> Sequence[Target]:
        return [
            Target("east", Role.PRIMARY, self.stores[0]),
            Target("west", Role.BACKUP, self.stores[1]),
        ]

    def copies(self, keys: LedgerKeys | None = None) -> LedgerCopies:
        return LedgerCopies(keys or self.keys, self.shreds, self.targets)

    def dead(self) -> list[str]:
        return [tenant for tenant in TENANTS if self.shreds.tenants[tenant].dead]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give a site whose ledger names two tenants, one of them nobody's here."""
    site = Site(tmp_path)
    yield site
    await site.keys.ledger_file.close()


async def test_every_target_gets_every_entry_once(site: Site) -> None:
    for tenant in TENANTS[:4]:
        await site.keys.kill(tenant)
    await site.keys.kill(new_id())
    copies = site.copies()
    first = await copies.run()
    assert (first.entries, first.stored, first.taken, first.buried) == (5, 10, 0, 4)
    assert site.dead() == TENANTS[:4]
    hashes = [PREFIX + entry.hash for entry in site.keys.ledger_file.page("", 9)]
    assert [store.keys for store in site.stores] == [hashes, hashes]
    again = await copies.run()
    assert (again.entries, again.stored, again.buried, again.failed) == (5, 0, 0, {})


async def test_a_lost_ledger_comes_back_from_a_target(site: Site) -> None:
    entries = {tenant: await site.keys.kill(tenant) for tenant in TENANTS}
    await site.copies().run()
    await site.keys.ledger_file.close()
    (site.folder / "shred.ledger").unlink()
    site.keys = ledger_keys(site.folder)
    site.shreds.tenants = {tenant: Shred() for tenant in TENANTS}  # the catalog from before, too
    site.stores[1].fail = StoreUnavailable("down")
    back = await site.copies().run()
    assert (back.taken, back.buried, back.entries) == (5, 5, 5)
    assert {t: site.keys.ledger_file.of(t) for t in TENANTS} == entries
    assert site.dead() == TENANTS


async def test_what_one_target_lost_another_gives_back(site: Site, tmp_path: Path) -> None:
    await site.keys.kill(TENANTS[0])
    await site.copies().run()
    other = ledger_keys(tmp_path / "other", site.keys.ledger_file.public)
    await other.kill(TENANTS[1])
    site.stores[0] = FaultyStore()
    merged = await site.copies(other).run()
    assert (merged.entries, merged.taken, merged.stored) == (2, 1, 3)
    assert site.dead() == TENANTS[:2]
    assert site.stores[0].keys == site.stores[1].keys
    await other.ledger_file.close()


async def test_what_a_target_planted_is_refused_and_keeps_nothing_out(
    site: Site, tmp_path: Path
) -> None:
    forger = ledger_keys(tmp_path / "forger")
    forged = await forger.kill(TENANTS[1])
    true = await site.keys.kill(TENANTS[0])
    await site.copies().run()
    await site.keys.ledger_file.close()
    (site.folder / "shred.ledger").unlink()
    site.keys = ledger_keys(site.folder)
    for name, data in (
        (forged.hash, forged.text.encode()),
        ("0" * 64, b"\xff"),
        ("1" * 64, b"x" * (1 << 18)),
        ("2" * 64, b"{}"),
        ("3" * 64, true.text.encode()),  # true, under another name
    ):
        await site.stores[0].put(PREFIX + name, piece(data))
    copies = site.copies()
    found = await copies.run()
    assert (found.taken, found.refused, found.entries) == (1, 2, 1)
    assert site.dead() == TENANTS[:1]
    read = site.stores[0].bytes_read
    again = await copies.run()
    assert (again.refused, again.failed) == (0, {})
    assert site.stores[0].bytes_read == read, "what was seen is not read again"
    await forger.ledger_file.close()


@pytest.mark.parametrize("name", ["", "README.txt", "a/b", "A" * 64, "0" * 300])
async def test_an_object_with_a_strange_name_keeps_nothing_from_its_target(
    site: Site, name: str
) -> None:
    first, second = [await site.keys.kill(tenant) for tenant in TENANTS[:2]]
    for store in site.stores:
        store.have(PREFIX + name, b"made by hand")
        await store.put(PREFIX + first.hash, piece(first.text.encode()))
    await site.keys.ledger_file.close()
    (site.folder / "shred.ledger").unlink()
    site.keys = ledger_keys(site.folder)
    await site.keys.add_to_ledger([second.text])
    found = await site.copies().run()
    assert (found.taken, found.entries, found.stored, found.failed) == (1, 2, 2, {})
    assert site.dead() == TENANTS[:2]


async def test_a_target_that_is_down_keeps_no_other_from_its_copy(site: Site) -> None:
    await site.keys.kill(TENANTS[0])
    site.stores[0].fail = StoreUnavailable("down")
    found = await site.copies().run()
    assert found.failed == {"east": "StoreUnavailable"}
    assert found.stored == 1
    site.stores[0].fail = None
    assert (await site.copies().run()).stored == 1
