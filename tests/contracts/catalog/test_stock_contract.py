"""What a target should hold, by name and size, on both databases."""

from dataclasses import replace

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Tenant, new_id
from gateway.ports import Finding, Holding, Kept
from tests.contracts.catalog.samples import ANY, START, FakeClock, at, new_upload, put, version_of


async def test_stored_replicas_come_in_pages(catalog: SqlCatalog, tenant: str) -> None:
    versions = [await put(catalog, tenant, f"{n}") for n in range(5)]
    upload = new_upload(tenant)
    inline = replace(version_of(upload, await catalog.begin(upload, "i")), body_size=0, inline=b"s")
    await catalog.commit(inline, {"primary": ReplicaState.STORED}, ANY, None)
    found, after = list[Kept](), None
    while page := await catalog.replicas.kept("primary", after=after, limit=2):
        found += page
        after = page[-1].version
    expected = sorted([*versions, inline], key=lambda version: version.id)
    assert found == [Kept(v.id, tenant, v.blob, v.body_size) for v in expected]
    assert await catalog.replicas.kept("backup") == []
    assert await catalog.replicas.kept("moon") == []


async def test_what_is_damaged_or_being_purged_is_not_held(
    catalog: SqlCatalog, tenant: str
) -> None:
    bad, doomed, good = [await put(catalog, tenant, f"{n}") for n in range(3)]
    await catalog.replicas.report([Finding(bad.id, "primary", ReplicaState.DAMAGED)])
    await catalog.trash(tenant, "1", ANY)
    await catalog.bin.doom_now(tenant, doomed.attachment)
    assert [each.version for each in await catalog.replicas.kept("primary")] == [good.id]
    assert (await catalog.replicas.holding("primary")).objects == 1


async def test_a_sum_of_what_is_held(catalog: SqlCatalog, tenant: str, clock: FakeClock) -> None:
    assert await catalog.replicas.holding("primary") == Holding(0, 0, 0, None)
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    versions = [await put(catalog, owner, "a") for owner in (tenant, other.id)]
    size = versions[0].body_size
    assert await catalog.replicas.holding("primary") == Holding(2, 2 * size, 2, None)
    for second, version in enumerate(versions, 7):
        clock.now = at(second)
        await catalog.replicas.report([Finding(version.id, "primary", ReplicaState.STORED)])
    assert await catalog.replicas.holding("primary") == Holding(2, 2 * size, 0, at(7))
    alone = await catalog.replicas.holding("primary", tenant=other.id)
    assert alone == Holding(1, size, 0, at(8))
