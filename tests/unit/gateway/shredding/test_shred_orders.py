"""Orders are carried out when they are due, and found when nobody told of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import Retention, Tenant, microseconds, new_id, now
from gateway.ports import Shred
from gateway.shredding.orders import Executed, ShredOrders, Swept
from keyservice.wire import ShredOrder, SignedReceipt
from tests.doubles.shred_keys import LedgerKeys, ledger_keys

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST, SECOND, THIRD = sorted(new_id() for _ in range(3))


class Site:
    """A key service and a catalog with three tenants."""

    def __init__(self, folder: Path, catalog: SqlCatalog) -> None:
        self.bin = catalog.bin
        self.keys: LedgerKeys = ledger_keys(folder)
        self.shreds = catalog.shreds
        self.orders = ShredOrders(self.keys, self.keys, catalog, self.shreds)

    async def order(self, tenant: str, days: int, *, told: bool = True) -> None:
        due = START + days * DAY
        at = microseconds(START)
        self.keys.orders[tenant] = ShredOrder(at, microseconds(due), "dns:a", "end")
        if told:
            await self.orders.learn(tenant)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give a site where nothing is ordered."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url)
    site = Site(tmp_path, catalog)
    for tenant in (FIRST, SECOND, THIRD):
        await catalog.add_tenant(Tenant(tenant, "standard", now()))
        site.keys.orders[tenant] = None
    yield site
    await catalog.close()
    await site.keys.ledger_file.close()


async def test_what_is_due_is_carried_out_and_nothing_else(site: Site) -> None:
    await site.order(FIRST, 1)
    await site.order(SECOND, 2)
    assert await site.orders.run(START) == Executed()
    site.keys.time = microseconds(START + DAY)
    assert await site.orders.run(START + DAY) == Executed(1, 1, 0)
    assert site.keys.executed == [FIRST]
    assert (await site.shreds.shred(FIRST)).dead
    assert await site.orders.run(START + DAY) == Executed()


async def test_whether_it_is_due_is_the_key_services_to_say(site: Site) -> None:
    await site.order(FIRST, 1)
    site.keys.time = microseconds(START)
    assert await site.orders.run(START + DAY) == Executed(1, 0, 1)
    assert not (await site.shreds.shred(FIRST)).dead
    site.keys.orders[FIRST] = None  # undone, and this catalog was not told
    assert await site.orders.run(START + DAY) == Executed(1, 0, 1)
    assert await site.orders.run(START + DAY) == Executed()


async def test_a_hold_that_comes_while_others_are_carried_out_counts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant in (FIRST, SECOND, THIRD):
        await site.order(tenant, 1)
    site.keys.time = microseconds(START + DAY)
    execute = site.keys.execute_shred

    async def slowly(tenant: str, *, reason: str, request_id: str = "") -> SignedReceipt:
        if tenant == FIRST:
            await site.bin.retain(SECOND, Retention(hold=now() + DAY))
        return await execute(tenant, reason=reason, request_id=request_id)

    monkeypatch.setattr(site.keys, "execute_shred", slowly)
    assert await site.orders.run(START + DAY) == Executed(2, 2, 0)
    assert site.keys.executed == [FIRST, THIRD]
    assert not (await site.shreds.shred(SECOND)).dead


async def test_while_the_key_service_is_down_an_order_waits(site: Site) -> None:
    await site.order(FIRST, 1)
    site.keys.down = True
    assert await site.orders.run(START + DAY) == Executed(1, 0, 1)
    site.keys.down, site.keys.time = False, microseconds(START + DAY)
    assert await site.orders.run(START + DAY) == Executed(1, 1, 0)


async def test_a_sweep_finds_orders_and_ends_that_nobody_told_of(site: Site) -> None:
    await site.order(FIRST, 1, told=False)
    await site.keys.kill(SECOND)
    assert await site.orders.sweep() == Swept(3, 1, 1)
    assert (await site.shreds.shred(FIRST)).due == START + DAY
    assert (await site.shreds.shred(SECOND)).dead
    assert site.keys.executed == [SECOND], "again, should its entry have been lost"
    site.keys.orders[FIRST] = None
    await site.orders.sweep()
    assert (await site.shreds.shred(FIRST)) == Shred()


async def test_an_order_that_was_approved_is_due_at_once(site: Site) -> None:
    at = microseconds(START)
    site.keys.orders[FIRST] = ShredOrder(at, at + 1, "dns:a", "end", approved="dns:b")
    await site.orders.learn(FIRST)
    assert (await site.shreds.shred(FIRST)).due == START
