"""What the catalog has about a target, and forgetting it, on both databases."""

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState, Version
from gateway.ports import Finding, Trace
from tests.contracts.catalog.samples import ANY, Time, kek_of, put
from tests.contracts.catalog.test_leftovers_contract import DAY, reseal
from tests.contracts.catalog.test_wraps_contract import change

STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING
BOTH = {"primary": STORED, "west": STORED}
KEPT = ["primary", "east"]


async def ids(catalog: SqlCatalog, target: str = "west") -> list[str]:
    """Page through the last copies of a target, one at a time."""
    found: list[Version] = []
    while page := await catalog.traces.last(
        target, KEPT, after=found[-1].id if found else None, limit=1
    ):
        found += page
    return [each.id for each in found]


async def forget(catalog: SqlCatalog, *, lost: bool = False, limit: int = 2) -> Trace:
    """Forget west, a few rows at a time; return what there is of it then."""
    while not (await catalog.traces.forget("west", KEPT, limit, lost=lost)).empty:
        pass
    return await catalog.traces.of("west")


async def test_every_target_with_a_row_is_named(catalog: SqlCatalog, tenant: str) -> None:
    assert await catalog.traces.targets() == []
    version = await put(catalog, tenant, "a", replicas={"west": STORED, "east": MISSING})
    await put(catalog, tenant, "b", replicas={"primary": STORED})
    await catalog.wraps.mark_stale(version.id, "old_north", kek_of(tenant, 7))
    assert await catalog.traces.targets() == ["east", "old_north", "primary", "west"]


async def test_a_kek_is_free_once_the_target_is_forgotten(catalog: SqlCatalog, tenant: str) -> None:
    made = [await put(catalog, tenant, str(number), replicas=BOTH) for number in range(5)]
    await catalog.wraps.rewrap([change(each) for each in made])
    for stale in await catalog.wraps.claim_stale(
        tenant=None, targets=["primary"], lease=DAY, limit=9
    ):
        assert await catalog.wraps.pushed(stale, kek_of(tenant, 2))
    assert await catalog.traces.of("west") == Trace("west", 5, 5, 0)
    old = {use.kek: use for use in await catalog.wraps.uses(tenant)}[kek_of(tenant)]
    assert (old.versions, old.stale) == (0, {"west": 5})
    assert await ids(catalog) == []
    step = await catalog.traces.forget("west", KEPT, 3)
    assert (step.replicas, step.stale) == (3, 3)
    assert (await forget(catalog)).empty
    assert [use.kek for use in await catalog.wraps.uses(tenant)] == [kek_of(tenant, 2)]
    assert (await catalog.find(tenant, "0")).replicas == {"primary": STORED}
    assert (await catalog.traces.forget("west", KEPT, 3)).empty


async def test_a_last_copy_stays_unless_it_is_lost(catalog: SqlCatalog, tenant: str) -> None:
    only = await put(catalog, tenant, "a", replicas={"west": STORED, "primary": MISSING})
    await put(catalog, tenant, "b", replicas=BOTH)
    damaged = await put(catalog, tenant, "c", replicas={"west": STORED, "primary": MISSING})
    await catalog.replicas.report(
        [Finding(damaged.id, "west", ReplicaState.DAMAGED, blob=damaged.blob)]
    )
    # A target that is not kept either is no reason to let one go.
    gone_too = await put(catalog, tenant, "d", replicas={"west": STORED, "north": STORED})
    await put(catalog, tenant, "e", replicas={"west": MISSING, "primary": STORED})
    await catalog.wraps.rewrap([change(only)])
    last = sorted(each.id for each in (only, damaged, gone_too))
    assert await ids(catalog) == last
    assert await forget(catalog) == Trace("west", 3, 1, 0)
    assert await ids(catalog) == last
    assert await forget(catalog, lost=True) == Trace("west")
    assert (await catalog.find(tenant, "a")).replicas == {"primary": MISSING}
    assert (await catalog.find(tenant, "d")).replicas == {"north": STORED}


async def test_what_is_being_purged_waits_for_it_no_more(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    del time
    version = await put(catalog, tenant, "a", replicas={"west": STORED, "primary": MISSING})
    trashed = await catalog.trash(tenant, "a", ANY)
    assert await ids(catalog) == [version.id], "what is in the trash may come back"
    await catalog.bin.doom_now(tenant, trashed.id)
    await catalog.bin.gone(version.id, "primary")
    assert not await catalog.bin.purge(version.id)
    assert await ids(catalog) == []
    assert (await forget(catalog)).empty
    assert await catalog.bin.purge(version.id)


async def test_blobs_beside_versions_are_on_the_other_targets_only(
    catalog: SqlCatalog, tenant: str, time: Time
) -> None:
    version = await put(catalog, tenant, "a", replicas={**BOTH, "west%": STORED})
    await reseal(catalog, version, BOTH)
    assert await catalog.traces.of("west") == Trace("west", 1, 0, 1)
    assert (await forget(catalog)).empty
    assert (await catalog.traces.of("west%")).leftovers == 1
    await time.passes(31 * DAY)
    await catalog.wraps.doom_leftovers(9)
    (left,) = await catalog.wraps.leftovers(9)
    assert left.targets == {"primary", "west%"}
