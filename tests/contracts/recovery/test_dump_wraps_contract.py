"""What a dump keeps of KEKs, stale copies and leftovers, and what a catalog that loaded it makes of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import cbor2
import pytest

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, new_id
from gateway.ports import Rewrapped, Rotation
from tests.contracts.catalog.samples import ANY, FakeClock, Time, kek_of, put
from tests.contracts.recovery.dumps import Fresh, again, taken
from tests.doubles.blobs import commit
from tests.doubles.stores import FaultyStore

LEASE = timedelta(days=9)
MONTH = timedelta(days=31)
BOTH = {"primary": ReplicaState.STORED, "backup": ReplicaState.STORED}


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
async def test_what_is_stale_and_left_over_is_kept(
    catalog: SqlCatalog, clock: FakeClock, tenant: str, fresh: Fresh, to: str
) -> None:
    time = Time(catalog, clock)
    await time.passes(timedelta())
    versions = [await put(catalog, tenant, name, ANY, replicas=BOTH) for name in "ab"]
    await catalog.wraps.set_schedule(tenant, Rotation(kek=MONTH))
    new = replace(versions[1], blob=new_id(), kek=kek_of(tenant, 3))
    assert await catalog.wraps.intend(versions[1], new.blob, new.kek)
    assert await catalog.wraps.switch(new, versions[1].blob, BOTH)
    first = versions[0]
    newer = Rewrapped(first.id, first.blob, first.kek, kek_of(tenant, 2), b"envelope")
    assert await catalog.wraps.rewrap([newer])
    targets = ["backup", "primary"]
    for stale in await catalog.wraps.claim_stale(
        tenant=None, targets=targets, lease=LEASE, limit=9
    ):
        assert not stale.unsure
    await time.passes(MONTH)
    uses = await catalog.wraps.uses(tenant)
    assert [use.leftovers for use in uses] == [1, 0, 0]

    other = await fresh(to)
    await other.dumps.load(again(await taken(catalog)))

    assert await other.wraps.uses(tenant) == uses
    assert await other.wraps.schedule(tenant) == Rotation(kek=MONTH)
    # Whoever had them is gone, and the stores may be ahead of the dump.
    claimed = await other.wraps.claim_stale(tenant=None, targets=targets, lease=LEASE, limit=9)
    assert [(stale.target, stale.unsure) for stale in claimed] == [(t, True) for t in targets]
    assert await other.wraps.pushed(claimed[0], kek_of(tenant, 2))
    # What waits to be purged waits for all of its time again.
    assert await other.wraps.doom_leftovers(9) == 0
    assert await catalog.wraps.doom_leftovers(9) == 1
    await Time(other, clock).passes(MONTH)
    assert await other.wraps.doom_leftovers(9) == 1


async def test_what_was_being_resealed_is_not_abandoned_at_once(
    catalog: SqlCatalog, clock: FakeClock, tenant: str, fresh: Fresh
) -> None:
    version = await put(catalog, tenant, "a", ANY, replicas=BOTH)
    assert await catalog.wraps.intend(version, blob := new_id(), version.kek)
    pieces = await taken(catalog)
    # It was switched to after that; a rebuild finds it on the targets, unless it was purged before.
    clock.now += MONTH
    other = await fresh("sqlite")
    await other.dumps.load(again(pieces))
    assert await other.wraps.doom_leftovers(9) == 0
    assert await other.recovery.missing([blob]) == {blob}
    clock.now += timedelta(days=1)
    assert await other.wraps.doom_leftovers(9) == 1


async def test_a_dump_of_before_there_were_keks_gets_them(
    catalog: SqlCatalog, tenant: str, fresh: Fresh
) -> None:
    made = [
        (await commit(catalog, tenant, bytes(9), {"east": FaultyStore()}, on=["east"])).version
        for _ in range(3)
    ]
    pieces = _without(await taken(catalog), "versions", "kek")
    other = await fresh("sqlite")
    await other.dumps.load(again(pieces))
    assert [each.version.kek for each in await other.wraps.on_kek("k1")] == ["k1"] * 3
    for version in made:
        assert await other.replicas.version(version.id) == version


def _without(pieces: Sequence[bytes], table: str, column: str) -> list[bytes]:
    """Return a dump as it was before a column came, and the tables that came with it."""
    dump, told = b"".join(pieces), []
    while dump:
        size = 5 + int.from_bytes(dump[1:5], "big")
        told.append(_edited(cbor2.loads(dump[5:size]), table, column))
        dump = dump[size:]
    return [b"\x5a" + len(each).to_bytes(4, "big") + each for each in map(cbor2.dumps, told)]


def _edited(record: list[Any], table: str, column: str) -> list[Any]:
    match record:
        case [str(kind), 1, str(), int(taken)]:
            return [kind, 1, "0002", taken]
        case ["rows", str(name), list(columns), list(rows)] if name == table:
            place = columns.index(column)
            return ["rows", name, _cut(columns, place), [_cut(row, place) for row in rows]]
    return record


def _cut(values: list[Any], place: int) -> list[Any]:
    return values[:place] + values[place + 1 :]
