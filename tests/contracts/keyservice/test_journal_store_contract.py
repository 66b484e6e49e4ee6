"""What every store of key journals promises (keyservice.ports.JournalStore)."""

import asyncio
import secrets
from collections.abc import Callable

import pytest

from keyservice.errors import Conflict, UnknownTenant
from keyservice.ports import JournalStore
from tests.contracts.keyservice.conftest import Pair


@pytest.fixture
def lines(again: Callable[[], Pair]) -> JournalStore:
    """Give the store under test."""
    return again().journal


@pytest.fixture
def tenant() -> str:
    """Give a tenant that nobody has written of."""
    return secrets.token_hex(16)


async def test_nothing_is_there_at_first(lines: JournalStore, tenant: str) -> None:
    assert await lines.head(tenant) == 0
    assert await lines.read(tenant, 1) is None


async def test_lines_come_back_as_they_were(lines: JournalStore, tenant: str) -> None:
    written = ['{"a":"\\u00e4 \\" \\\\ <>&"}', "x" * 60_000, '{"b": 2}']
    for number, text in enumerate(written, 1):
        await lines.add(tenant, number, text)
        assert await lines.head(tenant) == number
    assert [await lines.read(tenant, number) for number in (1, 2, 3)] == written
    assert await lines.read(tenant, 4) is None


async def test_another_instance_sees_a_line(again: Callable[[], Pair], tenant: str) -> None:
    await again().journal.add(tenant, 1, "one")
    other = again().journal
    assert (await other.head(tenant), await other.read(tenant, 1)) == (1, "one")


async def test_a_line_is_never_written_anew(again: Callable[[], Pair], tenant: str) -> None:
    await again().journal.add(tenant, 1, "one")
    for text in ("one", "two"):
        with pytest.raises(Conflict):
            await again().journal.add(tenant, 1, text)
    assert await again().journal.read(tenant, 1) == "one"


async def test_of_many_writers_one_wins(again: Callable[[], Pair], tenant: str) -> None:
    stores = [again().journal, again().journal]
    attempts = [stores[number % 2].add(tenant, 1, f"{number}") for number in range(8)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    won = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert len(won) == 1
    assert all(isinstance(o, Conflict) for n, o in enumerate(outcomes) if n != won[0])
    assert await stores[0].read(tenant, 1) == f"{won[0]}"


async def test_journals_are_apart(lines: JournalStore, tenant: str) -> None:
    await lines.add(tenant, 1, "ours")
    other = secrets.token_hex(16)
    await lines.add(other, 1, "theirs")
    assert await lines.read(tenant, 1) == "ours"
    assert await lines.head(secrets.token_hex(16)) == 0


@pytest.mark.parametrize("place", ["", "..", "../tenants", "A" * 32, "0" * 31])
async def test_what_is_no_tenant_leads_nowhere_in_a_journal(
    lines: JournalStore, place: str
) -> None:
    for attempt in (lines.head(place), lines.read(place, 1), lines.add(place, 1, "x")):
        with pytest.raises(UnknownTenant):
            await attempt


async def test_the_store_of_journals_can_be_closed_twice(lines: JournalStore) -> None:
    await lines.close()
    await lines.close()
