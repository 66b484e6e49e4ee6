"""Changes of how keys are kept that end in the middle, that meet, or that come to a tenant not active."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from keyservice.desk.lifecycle import Wanted
from keyservice.errors import KeyServiceError, Shredded, Shredding, Suspended, Unavailable
from keyservice.records import OWN, SHARED, TenantState, Tier
from tests.unit.keyservice.fakes import put
from tests.unit.keyservice.lifecycle_bench import CALL, SECOND, A, Instance, Site, mortal, rotate

Change = Callable[[Instance], Awaitable[object]]


@pytest.fixture
def site() -> Site:
    return Site()


CHANGES: dict[str, Change] = {
    "rotate-kek": rotate,
    "retire-kek": lambda one: one.lifecycle.retire_kek(CALL, A, f"{A}/1"),
    "rotate-root": lambda one: one.lifecycle.rotate_root(CALL, A),
    "rewrap-root": lambda one: one.lifecycle.rewrap_root(CALL, A),
    "move": lambda one: one.lifecycle.move(CALL, A, Tier.STANDARD, SHARED),
    "settings": lambda one: one.lifecycle.settings(CALL, A, Wanted(1.0)),
    "destroy-root": lambda one: one.lifecycle.destroy_root(CALL, A, "0a1b2c3d"),
}
ENDED: list[tuple[TenantState, type[KeyServiceError]]] = [
    (TenantState.SUSPENDED, Suspended),
    (TenantState.SHREDDING, Shredding),
    (TenantState.SHREDDED, Shredded),
]


@pytest.mark.parametrize(("state", "error"), ENDED)
@pytest.mark.parametrize("name", [*CHANGES, "resume"])
async def test_a_tenant_that_is_not_active_stays_as_it_is(
    site: Site, name: str, state: TenantState, error: type[KeyServiceError]
) -> None:
    change: Change = CHANGES.get(name, lambda one: one.lifecycle.resume(CALL, A))
    if (name, state) == ("resume", TenantState.SUSPENDED):
        return
    record = await site.one.create(A)
    before = put(site.root, site.store, dataclasses.replace(record, state=state))
    with pytest.raises(error):
        await change(site.one)
    assert await site.one.record(A) == before


async def test_suspending_what_is_to_be_destroyed_changes_nothing(site: Site) -> None:
    record = await site.one.create(A)
    before = put(site.root, site.store, dataclasses.replace(record, state=TenantState.SHREDDING))
    assert await site.one.lifecycle.suspend(CALL, A) == before
    put(site.root, site.store, dataclasses.replace(record, state=TenantState.SHREDDED))
    with pytest.raises(Shredded):
        await site.one.lifecycle.suspend(CALL, A)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["rotate-root", "move", "rotate-kek", "retire", "destroy-root"])
async def test_a_change_may_end_at_any_call_and_be_made_again(name: str, *, after: bool) -> None:
    for calls in range(1, 40):
        site = Site()
        await site.one.create(A)
        keys = [await site.one.key(A)]
        first = (await site.one.record(A)).keks[0].id
        await rotate(site.one)
        keys.append(await site.one.key(A))
        if name == "destroy-root":
            await site.one.lifecycle.move(CALL, A, Tier.BUSINESS, SECOND)
        expected = (await site.one.record(A)).keks[1].id
        changes: dict[str, Change] = {
            "rotate-root": lambda one: one.lifecycle.rotate_root(CALL, A),
            "move": lambda one: one.lifecycle.move(CALL, A, Tier.STANDARD, SHARED),
            "rotate-kek": lambda one, kek=expected: one.lifecycle.rotate_kek(CALL, A, kek),  # type: ignore[misc]
            "retire": lambda one, kek=first: one.lifecycle.retire_kek(CALL, A, kek),  # type: ignore[misc]
            "destroy-root": lambda one: one.lifecycle.destroy_root(CALL, A, ""),
        }
        ended = True
        try:
            await changes[name](mortal(site.root, site.store, calls, after=after))
            ended = False
        except Unavailable:
            pass
        good = keys[1:] if name == "retire" else keys
        assert await site.instance().opens(A, *good)  # what was begun keeps nobody out
        await changes[name](site.other)
        record = await site.one.record(A)
        assert await site.instance().opens(A, *good, await site.other.key(A))
        if name == "rotate-root":
            versions = await site.one.lifecycle.root_versions(CALL, A)
            assert versions.latest == versions.minimum
            assert {kek.root_version for kek in record.keks} == {versions.latest}
        elif name == "rotate-kek":
            assert len(record.keks) == 3
        elif name == "destroy-root":
            assert (record.left, site.root.generations[A, OWN].latest) == ((), 0)
        if not ended:
            return
    pytest.fail("the change has no end")


async def test_changes_at_once_are_each_made_once(site: Site) -> None:
    await site.one.create(A)
    key = await site.one.key(A)
    async with asyncio.TaskGroup() as group:
        group.create_task(site.one.lifecycle.rotate_root(CALL, A))
        group.create_task(site.other.lifecycle.rotate_root(CALL, A))
        group.create_task(rotate(site.one))
        group.create_task(site.other.lifecycle.settings(CALL, A, Wanted(7.0)))
        group.create_task(site.other.lifecycle.move(CALL, A, Tier.BUSINESS, SECOND))
    record = await site.one.record(A)
    assert (record.cache_ttl, record.root, len(record.keks)) == (7.0, SECOND, 2)
    assert await site.one.opens(A, key)
    assert await site.other.opens(A, key)
