"""A version gets another blob, on both databases: intent, compare and set, and what stays behind."""

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


async def test_a_version_gets_its_new_blob_once(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    new = resealed(version)
    assert not await catalog.wraps.switch(new, version.blob, BOTH)  # nobody said that it comes
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.switch(new, version.blob, {"primary": STORED})
    assert await catalog.wraps.switch(new, version.blob, {"primary": STORED})
    found = await catalog.find(tenant, "a")
    assert found.version == new
    assert found.replicas == {"primary": STORED, "backup": MISSING}
    assert await catalog.known([version.blob, new.blob]) == {version.blob, new.blob}
    assert not await catalog.wraps.intend(version, new_id(), new.kek)


async def test_of_two_that_reseal_at_once_one_is_in_vain(
    several: list[SqlCatalog], tenant: str
) -> None:
    version = await put(several[0], tenant, "a", replicas=BOTH)
    news = [resealed(version) for _ in several]
    for catalog, new in zip(several, news, strict=True):
        assert await catalog.wraps.intend(version, new.blob, new.kek)
    done = await asyncio.gather(
        *(
            catalog.wraps.switch(new, version.blob, BOTH)
            for catalog, new in zip(several, news, strict=True)
        )
    )
    assert sorted(done) == [False] * (len(several) - 1) + [True]
    assert (await several[0].find(tenant, "a")).version == news[done.index(True)]


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
