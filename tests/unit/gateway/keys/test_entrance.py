"""Who gets in: not a tenant whose keys may not be used, and in an outage what was said last."""

import asyncio

import pytest

from gateway.keys.entrance import REST, Entrance
from keyservice.wire import (
    Altered,
    Denied,
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    SuspendedByOwner,
    Unavailable,
    UnknownTenant,
)
from tests.doubles.keys import MemoryKeys

A, B = "a" * 32, "b" * 32


class Told(MemoryKeys):
    """Says of every tenant what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.says: KeyServiceError | None = None
        self.asked = 0
        self.believed = False

    def remembered(self, tenant: str) -> bool:
        del tenant
        return self.believed

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        del tenant, request_id
        self.asked += 1
        if self.says is not None:
            raise self.says


class Door:
    """An entrance, its key service, and its clock."""

    def __init__(self) -> None:
        self.keys, self.now = Told(), 0.0
        self.entrance = Entrance(self.keys, clock=lambda: self.now)

    async def admits(self, tenant: str = A) -> str:
        try:
            await self.entrance.admit(tenant)
        except KeyServiceError as error:
            return error.code
        return "yes"


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    "kind", [Suspended, SuspendedByOwner, Shredding, Shredded, Denied, Altered]
)
async def test_a_refusal_is_told_as_it_is(door: Door, kind: type[KeyServiceError]) -> None:
    door.keys.says = kind()
    assert await door.admits() == kind.code
    door.keys.says = None
    assert await door.admits() == "yes"


@pytest.mark.parametrize("kind", [Suspended, SuspendedByOwner, Shredding, Shredded])
async def test_in_an_outage_the_last_word_counts(door: Door, kind: type[KeyServiceError]) -> None:
    door.keys.says = kind()
    await door.admits(A)
    door.keys.says = Unavailable()

    assert await door.admits(A) == kind.code
    assert await door.admits(B) == "yes"  # what needs a key fails by itself

    asked = door.keys.asked
    assert await door.admits(A) == kind.code
    assert door.keys.asked == asked  # left alone for a while
    door.now += REST
    door.keys.says = None
    assert await door.admits(A) == "yes"
    door.keys.says = Unavailable()
    assert await door.admits(A) == "yes"


async def test_an_outage_of_one_tenants_root_is_no_outage_of_others(door: Door) -> None:
    door.keys.says = Unavailable()
    assert await door.admits(A) == "yes"
    door.keys.says = Suspended()
    assert await door.admits(B) == "suspended"


async def test_what_is_remembered_is_asked_of_nobody(door: Door) -> None:
    door.keys.says = Suspended()
    await door.admits()
    asked, door.keys.believed = door.keys.asked, True
    assert await door.admits() == "yes"
    assert door.keys.asked == asked

    door.keys.believed = False
    door.keys.says = Unavailable()
    assert await door.admits() == "yes"  # the refusal is no longer the last word


async def test_one_that_hangs_is_not_waited_for(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.keys.entrance.PATIENCE", 0.01)

    async def hang(tenant: str, *, request_id: str = "") -> None:
        del tenant, request_id
        await asyncio.sleep(60)

    monkeypatch.setattr(door.keys, "usable", hang)
    assert await door.admits() == "yes"


async def test_a_tenant_that_it_does_not_know_is_the_catalogs_to_tell(door: Door) -> None:
    door.keys.says = UnknownTenant()
    assert await door.admits() == "yes"


async def test_what_it_remembers_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.entrance.KNOWN", 1)
    door.keys.says = Suspended()
    await door.admits(A)
    await door.admits(B)
    door.keys.says = Unavailable()
    assert await door.admits(B) == "suspended"
    assert await door.admits(A) == "yes"
