"""Blobs that a reseal replaced or wrote in vain, on both databases: owned, kept, and purged in time."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Retention, Version, new_id
from gateway.ports import Finding, KekUse
from tests.contracts.catalog.samples import ANY, FakeClock, Time, kek_of, put

DAY = timedelta(days=1)
LEASE = timedelta(minutes=1)
BOTH = {"primary": ReplicaState.STORED, "backup": ReplicaState.STORED}
FIRST = {"primary": ReplicaState.STORED}


def resealed(version: Version, number: int = 2) -> Version:
    """Return a version as a reseal makes it: the same content under another data key."""
    return replace(
        version,
        blob=new_id(),
        body_size=version.body_size + 1,
        envelope=b"sealed again",
        kek=kek_of(version.tenant, number),
        inline=b"inline",
    )


async def reseal(
    catalog: SqlCatalog,
    version: Version,
    replicas: Mapping[str, ReplicaState] = BOTH,
    number: int = 2,
) -> Version:
    """Do what a reseal does, and return the version that it made."""
    new = resealed(version, number)
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.wraps.switch(new, version.blob, replicas)
    return new


async def leftovers(catalog: SqlCatalog) -> dict[str, frozenset[str]]:
    """Begin the removal of what is due; return the targets of all that is being removed."""
    await catalog.wraps.doom_leftovers(100)
    return {each.blob: each.targets for each in await catalog.wraps.leftovers(100)}


async def test_a_switch_gives_a_version_another_blob(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a", replicas={**BOTH, "west": ReplicaState.MISSING})
    await time.passes(timedelta(seconds=60))
    new = await reseal(catalog, version, FIRST)
    found = await catalog.find(tenant, "a")
    assert found.version == new
    missing = ReplicaState.MISSING
    assert found.replicas == {**FIRST, "backup": missing, "west": missing}
    gaps = await catalog.replicas.claim(["backup", "west"], lease=LEASE, limit=9, newest=True)
    assert {gap.target for gap in gaps} == {"backup", "west"}
    assert {gap.version for gap in gaps} == {new}
    assert {gap.since for gap in gaps} == {clock.now}


async def test_what_a_reseal_writes_and_replaces_is_owned(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    new = resealed(version)
    assert await catalog.known([version.blob, new.blob]) == {version.blob}
    await catalog.wraps.intend(version, new.blob, new.kek)
    assert await catalog.known([version.blob, new.blob]) == {version.blob, new.blob}
    # A copy of the catalog that says so may be older than the switch.
    assert await catalog.recovery.missing([new.blob]) == {new.blob}
    assert await catalog.running([new.blob]) == {new.blob}
    await catalog.wraps.switch(new, version.blob, FIRST)
    assert await catalog.known([version.blob, new.blob]) == {version.blob, new.blob}
    assert await catalog.recovery.missing([version.blob, new.blob]) == set()
    assert await catalog.replicas.owners([version.blob, new.blob]) == {new.blob: version.id}


async def test_a_switch_is_safe_to_repeat(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    new = await reseal(catalog, version)
    assert await catalog.wraps.switch(new, version.blob, FIRST)
    assert (await catalog.find(tenant, "a")).replicas == BOTH


async def test_nothing_is_switched_that_was_not_intended(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    other = await put(catalog, tenant, "b")
    new = resealed(version)
    assert not await catalog.wraps.switch(new, version.blob, FIRST)
    await catalog.wraps.intend(other, new.blob, new.kek)
    assert not await catalog.wraps.switch(new, version.blob, FIRST)
    assert not await catalog.wraps.intend(version, new.blob, new.kek)
    gone = replace(version, id=new_id())
    assert not await catalog.wraps.intend(gone, new_id(), new.kek)
    assert not await catalog.wraps.switch(replace(new, id=gone.id), version.blob, FIRST)
    assert (await catalog.find(tenant, "a")).version == version


async def test_of_two_that_reseal_at_once_one_is_in_vain(
    several: list[SqlCatalog], tenant: str
) -> None:
    version = await put(several[0], tenant, "a")
    made = [resealed(version, 2 + tool) for tool in range(3)]
    for catalog, new in zip(several, made, strict=True):
        assert await catalog.wraps.intend(version, new.blob, new.kek)
    switched = await asyncio.gather(
        *(c.wraps.switch(n, version.blob, BOTH) for c, n in zip(several, made, strict=True))
    )
    assert sum(switched) == 1
    won = made[switched.index(True)]
    assert (await several[0].find(tenant, "a")).version == won
    blobs = [version.blob, *(new.blob for new in made)]
    assert await several[0].known(blobs) == set(blobs)


async def test_what_was_replaced_goes_after_the_trash_time_by_both_clocks(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    await reseal(catalog, version, FIRST)
    await time.passes(timedelta(days=29))
    time.jumps(timedelta(days=30))
    assert await leftovers(catalog) == {}
    await time.passes(timedelta(days=2))
    assert await leftovers(catalog) == {version.blob: frozenset(BOTH)}
    assert await catalog.known([version.blob]) == {version.blob}
    await catalog.wraps.leftover_gone(version.blob)
    await catalog.wraps.leftover_gone(version.blob)
    assert await leftovers(catalog) == {}
    assert await catalog.known([version.blob]) == set()


async def test_nothing_of_a_tenant_under_a_hold_goes(
    catalog: SqlCatalog, tenant: str, time: Time, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    await reseal(catalog, version)
    await catalog.bin.retain(tenant, Retention(hold=clock.now + 40 * DAY))
    await time.passes(timedelta(days=39))
    assert await leftovers(catalog) == {}
    await time.passes(timedelta(days=2))
    assert list(await leftovers(catalog)) == [version.blob]


async def test_what_was_written_in_vain_goes_after_a_day(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    version = await put(catalog, tenant, "a")
    kept, new = resealed(version), resealed(version)
    for each in (kept, new):
        assert await catalog.wraps.intend(version, each.blob, each.kek)
    await time.passes(timedelta(hours=20))
    assert await catalog.wraps.intend(version, kept.blob, kept.kek)
    await time.passes(timedelta(hours=5))
    assert list(await leftovers(catalog)) == [new.blob]
    assert not await catalog.wraps.intend(version, new.blob, new.kek)
    assert not await catalog.wraps.switch(new, version.blob, BOTH)
    assert await catalog.wraps.switch(kept, version.blob, BOTH)


async def test_leftovers_go_with_their_version_and_before_it(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")
    new = await reseal(catalog, version)
    vain = resealed(new)
    assert await catalog.wraps.intend(new, vain.blob, vain.kek)
    attachment = await catalog.trash(tenant, "a", ANY)
    await catalog.bin.doom_now(tenant, attachment.id)
    assert not await catalog.wraps.switch(vain, new.blob, BOTH)
    assert not await catalog.wraps.intend(new, new_id(), new.kek)
    assert (await leftovers(catalog)).keys() == {version.blob}
    for target in BOTH:
        await catalog.bin.gone(new.id, target)
    await catalog.wraps.leftover_gone(version.blob)
    assert not await catalog.bin.purge(new.id)  # whoever writes the other one may do so still
    await catalog.wraps.leftover_gone(vain.blob)
    assert not await catalog.bin.purge(new.id)
    assert await catalog.wraps.abandon(vain.blob)
    assert (await leftovers(catalog)).keys() == {vain.blob}
    await catalog.wraps.leftover_gone(vain.blob)
    assert await catalog.bin.purge(new.id)


async def test_a_leftover_that_waits_is_not_forgotten(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    await reseal(catalog, version)
    await catalog.wraps.leftover_gone(version.blob)
    assert await catalog.known([version.blob]) == {version.blob}


async def test_uses_name_the_keks_of_leftovers(catalog: SqlCatalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a", replicas=BOTH)
    await catalog.wraps.mark_stale(version.id, "backup", kek_of(tenant, 7))
    new = await reseal(catalog, version)
    await catalog.wraps.intend(new, new_id(), kek_of(tenant, 3))
    assert list(await catalog.wraps.uses(tenant)) == [
        KekUse(kek_of(tenant), leftovers=1),
        KekUse(kek_of(tenant, 2), versions=1),
        KekUse(kek_of(tenant, 3), leftovers=1),
        KekUse(kek_of(tenant, 7), leftovers=1),
    ]


async def test_repair_and_push_of_the_replaced_blob_count_for_nothing(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "a")  # missing on the backup
    await catalog.wraps.mark_stale(version.id, "primary", kek_of(tenant, 7))
    (gap,) = await catalog.replicas.claim(["backup"], lease=LEASE, limit=9, newest=True)
    (stale,) = await catalog.wraps.claim_stale(
        tenant=None, targets=["primary"], lease=LEASE, limit=9
    )
    new = await reseal(catalog, version, FIRST)
    assert not await catalog.replicas.filled(gap, version.kek)
    assert not await catalog.wraps.pushed(stale, version.kek)
    seen = Finding(version.id, "backup", ReplicaState.STORED, "", version.blob, version.kek)
    assert await catalog.replicas.report([seen]) == 0
    found = await catalog.find(tenant, "a")
    assert found.replicas["backup"] is ReplicaState.MISSING
    assert list(await catalog.wraps.uses(tenant)) == [
        KekUse(kek_of(tenant), leftovers=1),
        KekUse(new.kek, versions=1),
        KekUse(kek_of(tenant, 7), leftovers=1),
    ]
