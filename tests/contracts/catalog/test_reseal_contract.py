"""A version gets another blob, on both databases, and nothing of the old one speaks for the new."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Version, new_id
from gateway.ports import Finding, Rewrapped
from tests.contracts.catalog.samples import kek_of, put

STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING
BOTH = {"primary": STORED, "backup": STORED}
LEASE = timedelta(minutes=1)


def resealed(version: Version) -> Version:
    """Return a version as its reseal makes it, under the same KEK."""
    return replace(version, blob=new_id(), envelope=b"sealed again")


async def switched(catalog: SqlCatalog, version: Version) -> Version:
    """Reseal a version as far as the catalog is concerned."""
    new = resealed(version)
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.switch(new, version.blob, BOTH)
    return new


async def test_an_envelope_is_never_that_of_another_blob(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    late = Rewrapped(version.id, version.blob, version.kek, kek_of(tenant, 2), b"of the old blob")
    new = await switched(catalog, version)
    assert await catalog.wraps.rewrap([late]) == frozenset()
    assert (await catalog.find(tenant, "a")).version == new


async def test_a_gap_of_the_old_blob_does_not_speak_for_the_new(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a", replicas={"primary": STORED, "backup": MISSING})
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    new = resealed(version)
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.switch(new, version.blob, {"primary": STORED})
    (other,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=1, newest=True)
    assert other.version == new
    for stale in (gap, replace(gap, until=other.until)):  # two leases may end at the same moment
        assert not await catalog.replicas.extend([stale], LEASE)
        assert not await catalog.replicas.filled(stale, stale.version.kek)
        await catalog.replicas.failed(stale, LEASE)
        await catalog.replicas.release([stale])
    assert await catalog.replicas.filled(other, new.kek)
    assert (await catalog.find(tenant, "a")).replicas == BOTH


async def test_what_was_seen_of_the_old_blob_is_nothing_about_the_new(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    new = resealed(version)
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.switch(new, version.blob, {"primary": STORED})
    late = [
        Finding(version.id, "primary", ReplicaState.DAMAGED, "flipped", version.blob),
        Finding(version.id, "backup", STORED, "", version.blob),
    ]
    assert await catalog.replicas.report(late) == 0
    assert (await catalog.find(tenant, "a")).replicas == {"primary": STORED, "backup": MISSING}
    assert await catalog.replicas.report([replace(late[1], blob=new.blob)]) == 1


async def test_what_was_abandoned_is_never_switched_to(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    new, other = resealed(version), resealed(version)
    for each in (new, other):
        assert await catalog.wraps.intend(version, each.blob, each.kek)
    for _ in range(2):
        assert await catalog.wraps.abandon(new.blob)
    assert not await catalog.wraps.switch(new, version.blob, BOTH)
    assert not await catalog.wraps.intend(version, new.blob, new.kek)
    (doomed,) = await catalog.wraps.leftovers(9)  # should whoever wrote it die before it is gone
    assert doomed.blob == new.blob
    await catalog.wraps.leftover_gone(new.blob)
    assert await catalog.wraps.abandon(new.blob)
    assert await catalog.known([new.blob]) == set()
    assert await catalog.wraps.switch(other, version.blob, BOTH)
    for switched_to in (other.blob, version.blob):
        assert not await catalog.wraps.abandon(switched_to)
    assert (await catalog.find(tenant, "a")).version == other


async def test_an_abandoned_blob_and_a_switch_that_comes_at_the_same_time(
    several: list[SqlCatalog], tenant: str
) -> None:
    for number in range(8):
        version = await put(several[0], tenant, str(number), replicas=BOTH)
        new = resealed(version)
        assert await several[0].wraps.intend(version, new.blob, new.kek)
        switched, abandoned = await asyncio.gather(
            several[0].wraps.switch(new, version.blob, BOTH), several[1].wraps.abandon(new.blob)
        )
        assert switched is not abandoned
        now = (await several[0].find(tenant, str(number))).version
        assert now == (new if switched else version)
