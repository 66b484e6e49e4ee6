"""Records that somebody with the key store in hand altered or wrote back, on every root and key store.

They cannot have a KEK opened, so they cannot seal. Whatever they write, the record is refused with one
clear error, and nothing is wrapped, unwrapped or written with it.
"""

import dataclasses
import secrets
from collections.abc import Awaitable, Callable

import pytest

from keyservice.desk.lifecycle import Wanted
from keyservice.errors import Altered, KeyServiceError
from keyservice.keys import seal
from keyservice.records import (
    SHARED,
    Allowance,
    KekState,
    TenantRecord,
    TenantState,
    Tier,
)
from keyservice.wire import DataKey, WrappedKey
from tests.contracts.keyservice.conftest import Pair
from tests.unit.keyservice.lifecycle_bench import CALL, Instance, rotate

Forge = Callable[[TenantRecord, TenantRecord], TenantRecord]
BENT: dict[str, Forge] = {
    "cache time": lambda mine, _: dataclasses.replace(mine, cache_ttl=86400.0),
    "rate": lambda mine, _: dataclasses.replace(mine, allowance=Allowance(1e9, 1e9)),
    "tier": lambda mine, _: dataclasses.replace(mine, tier=Tier.STANDARD),
    "root": lambda mine, _: dataclasses.replace(mine, root=SHARED),
    "order of KEKs": lambda mine, _: dataclasses.replace(mine, keks=mine.keks[::-1]),
    "KEK taken out": lambda mine, _: dataclasses.replace(mine, keks=mine.keks[1:]),
    "other KEK current": lambda mine, _: dataclasses.replace(
        mine,
        keks=(
            dataclasses.replace(mine.keks[0], state=KekState.CURRENT),
            dataclasses.replace(mine.keks[1], state=KekState.RETIRED),
        ),
    ),
    "another's KEKs": lambda mine, other: dataclasses.replace(mine, keks=other.keks),
    "another's KEK beside": lambda mine, other: dataclasses.replace(
        mine, keks=(*mine.keks, other.keks[0])
    ),
    "wrapped keys exchanged": lambda mine, _: dataclasses.replace(
        mine,
        keks=(
            dataclasses.replace(mine.keks[0], wrapped=mine.keks[1].wrapped),
            dataclasses.replace(mine.keks[1], wrapped=mine.keks[0].wrapped),
        ),
    ),
    "another's wrapped key": lambda mine, other: dataclasses.replace(
        mine,
        keks=(mine.keks[0], dataclasses.replace(mine.keks[1], wrapped=other.keks[1].wrapped)),
    ),
    "no KEK": lambda mine, _: dataclasses.replace(mine, keks=()),
    "seal of another": lambda mine, other: dataclasses.replace(mine, seal=other.seal),
    "no seal": lambda mine, _: dataclasses.replace(mine, seal="", sealed=0),
    "own seal": lambda mine, _: seal.seal(bytes(32), mine),
    "nothing": lambda mine, _: mine,
}


@pytest.fixture
def site(again: Callable[[], Pair]) -> tuple[Instance, Instance]:
    """Give two instances of the service on the adapter under test."""
    pairs = again(), again()
    return Instance(pairs[0].root, pairs[0].store), Instance(pairs[1].root, pairs[1].store)


async def tenant(instance: Instance, tier: Tier = Tier.BUSINESS) -> tuple[str, DataKey]:
    """Make a tenant with two KEKs; return it and a data key."""
    name = secrets.token_hex(16)
    await instance.create(name, tier)
    key = await instance.key(name)
    await rotate(instance, name)
    return name, key


async def put(instance: Instance, record: TenantRecord) -> TenantRecord:
    """Write the record as the newest version, without asking anybody."""
    version = (await instance.store.read(record.tenant)).version
    await instance.store.write(record, version)
    return record


async def all_refuse(instance: Instance, name: str, key: DataKey) -> None:
    """Ask for everything; each use and change is refused as altered, and the record stays as it is."""
    before = await instance.record(name)
    item = [WrappedKey(key.wrapped, b"c")]
    life = instance.lifecycle
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: instance.service.data_keys(CALL, name, [b"c"]),
        lambda: instance.service.unwrap(CALL, name, item),
        lambda: instance.service.rewrap(CALL, name, item),
        lambda: instance.service.usable(CALL, name),
        lambda: life.rotate_kek(CALL, name, key.kek),
        lambda: life.retire_kek(CALL, name, key.kek),
        lambda: life.rotate_root(CALL, name),
        lambda: life.rewrap_root(CALL, name),
        lambda: life.move(CALL, name, Tier.STANDARD, SHARED),
        lambda: life.settings(CALL, name, Wanted(1.0)),
        lambda: life.destroy_root(CALL, name, "ffffffff"),
        lambda: life.resume(CALL, name),
    ]
    for use in uses:
        with pytest.raises(Altered, match="altered or written back"):
            await use()
    assert await instance.record(name) == before


async def test_whatever_is_altered_is_refused(site: tuple[Instance, Instance]) -> None:
    one, other = site
    name, key = await tenant(one)
    stranger, _ = await tenant(one)
    theirs = await one.record(stranger)
    genuine = await one.record(name)
    for bend in BENT.values():
        version = (await one.store.read(name)).version
        forged = bend(dataclasses.replace(genuine, revision=version + 1), theirs)
        # Whoever can write can count as well.
        await put(one, dataclasses.replace(forged, sealed=version + 1 if forged.sealed else 0))
        await all_refuse(other, name, key)
    assert await other.opens(stranger, await one.key(stranger))


async def test_an_older_record_that_is_written_back_is_refused(
    site: tuple[Instance, Instance],
) -> None:
    one, other = site
    name, key = await tenant(one)
    old = await one.record(name)
    await one.lifecycle.suspend(CALL, name)
    suspended = await one.record(name)
    await put(one, old)
    await all_refuse(other, name, key)
    with pytest.raises(Altered):
        await one.lifecycle.suspend(CALL, name)
    version = (await one.store.read(name)).version
    await put(one, dataclasses.replace(old, revision=version + 1))
    await all_refuse(other, name, key)
    await put(one, suspended)
    await all_refuse(other, name, key)


async def test_a_suspension_does_not_end_by_an_edited_state(
    site: tuple[Instance, Instance],
) -> None:
    one, other = site
    name, key = await tenant(one)
    await one.lifecycle.suspend(CALL, name)
    held = await one.store.read(name)
    awake = dataclasses.replace(held.record, state=TenantState.ACTIVE)
    for sealed in (awake.sealed, held.version + 1):
        version = (await one.store.read(name)).version
        await put(one, dataclasses.replace(awake, revision=version + 1, sealed=sealed))
        await all_refuse(other, name, key)


async def test_what_was_altered_in_a_suspension_does_not_end_it(
    site: tuple[Instance, Instance],
) -> None:
    one, other = site
    name, key = await tenant(one)
    stranger, _ = await tenant(one)
    theirs = await one.record(stranger)
    await one.lifecycle.suspend(CALL, name)
    genuine = await one.record(name)
    for bend in BENT.values():
        version = (await one.store.read(name)).version
        forged = bend(dataclasses.replace(genuine, revision=version + 1), theirs)
        await put(one, forged)
        if forged == dataclasses.replace(genuine, revision=version + 1):
            continue  # as it was, but for a number: nothing that anybody gains by
        with pytest.raises(Altered):
            await other.lifecycle.resume(CALL, name)
        with pytest.raises(KeyServiceError):
            await other.opens(name, key)
        # Suspending once more must not bless it.
        await other.lifecycle.suspend(CALL, name)
        with pytest.raises(Altered):
            await other.lifecycle.resume(CALL, name)


async def test_the_genuine_record_goes_on(site: tuple[Instance, Instance]) -> None:
    one, other = site
    for tier in Tier:
        name, key = await tenant(one, tier)
        await one.lifecycle.suspend(CALL, name)
        await other.lifecycle.resume(CALL, name)
        if tier is Tier.BUSINESS:
            await other.lifecycle.rotate_root(CALL, name)
        assert await one.opens(name, key)
        assert await other.opens(name, key, await one.key(name))
