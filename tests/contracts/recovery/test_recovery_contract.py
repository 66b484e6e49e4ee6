"""What `Recovery` promises, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import NotFound
from gateway.model import ReplicaState, Retention, Tenant, Version, new_id
from gateway.ports import Recovered, Settled
from tests.contracts.catalog.samples import (
    ANY,
    NO_TIME,
    START,
    FakeClock,
    Time,
    at,
    kek_of,
    new_operation,
    new_upload,
    put,
    version_of,
)

TENANT = Tenant(new_id(), "business", START + timedelta(days=1))


def found(
    reference: str = "report",
    seconds: float = 0,
    *,
    attachment: str | None = None,
    tenant: str = TENANT.id,
    inline: bytes | None = None,
) -> Recovered:
    version = Version(
        id=new_id(),
        attachment=attachment or new_id(),
        tenant=tenant,
        blob=new_id(),
        created=at(seconds),
        size=10,
        body_size=0 if inline else 120,
        envelope=b"envelope",
        kek="k1",
        inline=inline,
    )
    return Recovered(version, reference)


async def numbers(catalog: SqlCatalog, reference: str, tenant: str = TENANT.id) -> list[str]:
    """Return the ids of a reference's versions, newest first."""
    return [each.version.id for each in await catalog.versions(tenant, reference)]


async def test_nothing_shows_before_it_is_settled(catalog: SqlCatalog) -> None:
    one = found(inline=b"sealed")

    assert await catalog.recovery.add([TENANT], [one], "east") == {}

    assert await catalog.recovery.empty()
    assert await catalog.list(TENANT.id, "", None, 9) == []
    with pytest.raises(NotFound):
        await catalog.find(TENANT.id, "report")
    assert await catalog.recovery.settle() == Settled(1, 1, 0)
    shown = await catalog.find(TENANT.id, "report")
    assert shown.version == one.version
    assert shown.replicas == {"east": ReplicaState.STORED}
    assert shown.attachment.created == one.version.created
    assert not await catalog.recovery.empty()


async def test_a_tenant_is_no_younger_than_its_attachments(catalog: SqlCatalog) -> None:
    await catalog.recovery.add([TENANT], [found()], "east")
    await catalog.recovery.settle()
    assert await catalog.tenant(TENANT.id) == Tenant(TENANT.id, "business", START)


async def test_the_newest_version_is_current_in_whatever_order_they_come(
    catalog: SqlCatalog,
) -> None:
    attachment = new_id()
    made = [found("report", seconds, attachment=attachment) for seconds in (5, 1, 9, 3)]
    for each in made:
        await catalog.recovery.add([TENANT], [each], "east")
    await catalog.recovery.settle()
    by_age = sorted(made, key=lambda each: each.version.created, reverse=True)
    assert await numbers(catalog, "report") == [each.version.id for each in by_age]
    current = await catalog.find(TENANT.id, "report")
    assert current.version.created == at(9)
    assert current.attachment.created == at(1)


async def test_adding_and_settling_may_be_repeated(catalog: SqlCatalog) -> None:
    made = [found(f"r{n}", n) for n in range(5)]
    for _ in range(3):
        assert await catalog.recovery.add([TENANT], made, "east") == {}
    assert await catalog.recovery.settle() == Settled(5, 5, 0)
    assert await catalog.recovery.settle() == Settled()
    assert await catalog.recovery.add([TENANT], made, "east") == {}
    assert await catalog.recovery.settle() == Settled()
    assert len(await catalog.list(TENANT.id, "", None, 99)) == 5


async def test_of_one_reference_the_newest_attachment_is_live(catalog: SqlCatalog) -> None:
    made = [found("report", seconds) for seconds in (1, 3, 2)]
    await catalog.recovery.add([TENANT], made, "east")
    assert await catalog.recovery.settle() == Settled(3, 3, 2)
    live = await catalog.find(TENANT.id, "report")
    assert live.version == made[1].version
    old = await catalog.by_version(TENANT.id, made[0].version.id)
    assert old.attachment.deleted == START  # now, by the clock of these tests


async def test_an_older_one_does_not_take_the_place_of_a_newer(
    catalog: SqlCatalog, tenant: str
) -> None:
    newest = await put(catalog, tenant, "report")
    replayed = [
        found("report", -60, tenant=tenant, attachment=newest.attachment),
        found("report", -30, tenant=tenant),
    ]
    await catalog.recovery.add([], replayed, "east")
    await catalog.recovery.settle()
    assert (await catalog.find(tenant, "report")).version.id == newest.id
    assert await numbers(catalog, "report", tenant) == [newest.id, replayed[0].version.id]
    hidden = await catalog.by_version(tenant, replayed[1].version.id)
    assert hidden.attachment.deleted is not None


async def test_a_newer_one_takes_the_place_of_an_older(catalog: SqlCatalog, tenant: str) -> None:
    old = await put(catalog, tenant, "report")
    newer = found("report", 60, tenant=tenant, attachment=old.attachment)
    other = found("other", 60, tenant=tenant)
    await put(catalog, tenant, "other")
    await catalog.recovery.add([], [newer, other], "east")
    assert await catalog.recovery.settle() == Settled(2, 1, 1)
    assert await numbers(catalog, "report", tenant) == [newer.version.id, old.id]
    assert (await catalog.find(tenant, "other")).version.id == other.version.id


async def test_what_was_in_the_trash_stays_there(catalog: SqlCatalog, tenant: str) -> None:
    old = await put(catalog, tenant, "report")
    await catalog.trash(tenant, "report", ANY)
    newer = found("report", 60, tenant=tenant, attachment=old.attachment)
    await catalog.recovery.add([], [newer], "east")
    await catalog.recovery.settle()
    with pytest.raises(NotFound):
        await catalog.find(tenant, "report")
    kept = await catalog.by_version(tenant, newer.version.id)
    assert kept.attachment.deleted == START
    assert kept.current


async def test_what_got_a_version_is_in_the_trash_for_all_of_its_time_again(
    catalog: SqlCatalog, clock: FakeClock, tenant: str
) -> None:
    """It must have been brought back: the version may be one that was acknowledged."""
    old = await put(catalog, tenant, "report")
    await catalog.trash(tenant, "report", ANY)
    other = await put(catalog, tenant, "other")
    await catalog.trash(tenant, "other", ANY)
    time = Time(catalog, clock)
    await time.counts(NO_TIME)  # begins to count
    await time.passes(timedelta(days=31))
    newer = found("report", 60, tenant=tenant, attachment=old.attachment)
    await catalog.recovery.add([], [newer], "east")
    await catalog.recovery.settle()
    assert await catalog.bin.doom(9) == 1
    assert [each.version.id for each in await catalog.bin.doomed(9)] == [other.id]
    await time.passes(timedelta(days=31))
    assert await catalog.bin.doom(9) == 2


async def test_a_copy_under_another_kek_is_stale_and_perhaps_newer(catalog: SqlCatalog) -> None:
    first = found()
    await catalog.recovery.add([TENANT], [first, first], "east")
    other = Recovered(replace(first.version, kek="k2"), first.reference)
    await catalog.recovery.add([TENANT], [other], "west")
    await catalog.recovery.settle()
    assert (await catalog.find(TENANT.id, "report")).version == first.version
    (stale,) = await catalog.wraps.claim_stale(
        tenant=None, targets=["east", "west"], lease=timedelta(minutes=1), limit=9
    )
    assert (stale.target, stale.unsure, *stale.keks) == ("west", True, "k2")


async def test_what_contradicts_is_refused(catalog: SqlCatalog) -> None:
    first = found()
    await catalog.recovery.add([TENANT], [first], "east")
    version = first.version
    stranger = Tenant(new_id(), "standard", START)
    copy = Recovered(
        Version(
            id=version.id,
            attachment=version.attachment,
            tenant=version.tenant,
            blob=new_id(),
            created=version.created,
            size=10,
            body_size=120,
            envelope=b"",
            kek="k1",
        ),
        "report",
    )
    moved = found("report", tenant=stranger.id, attachment=version.attachment)
    renamed = found("other", attachment=version.attachment)
    wrong = found("nul\0")
    refused = await catalog.recovery.add([stranger], [copy, moved, renamed, wrong], "east")
    assert refused == {
        copy.version.blob: "duplicate",
        moved.version.blob: "foreign",
        renamed.version.blob: "foreign",
        wrong.version.blob: "reference",
    }
    await catalog.recovery.settle()
    assert await numbers(catalog, "report") == [version.id]


async def test_an_upload_that_turns_out_to_be_a_version_is_over(
    catalog: SqlCatalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    operation = new_operation(tenant)
    await catalog.claim(
        type(operation)(tenant, operation.key_hash, operation.fingerprint, upload.id),
        timedelta(seconds=60),
    )
    attachment = await catalog.begin(upload, "report")
    version = Version(
        id=upload.id,
        attachment=attachment.id,
        tenant=tenant,
        blob=upload.blob,
        created=at(3),
        size=1,
        body_size=2,
        envelope=b"e",
        kek="k1",
    )
    await catalog.recovery.add([], [Recovered(version, "report")], "east")
    # Not settled yet, and already nobody's to clean up after.
    assert await catalog.stale(NO_TIME, 9) == []
    assert not await catalog.fence(upload.id)
    await catalog.recovery.settle()
    assert (await catalog.find(tenant, "report")).version == version
    assert await catalog.stale(NO_TIME, 9) == []
    claimed = await catalog.claim(new_operation(tenant), timedelta(seconds=60))
    assert claimed.version == version.id


async def test_an_upload_that_runs_goes_on(catalog: SqlCatalog, tenant: str) -> None:
    upload = new_upload(tenant)
    await catalog.begin(upload, "new")
    await catalog.recovery.add([], [found("report", tenant=tenant)], "east")
    await catalog.recovery.settle()
    assert await catalog.running([upload.blob]) == {upload.blob}


async def test_what_is_being_purged_stays_so(catalog: SqlCatalog, tenant: str) -> None:
    gone = await put(catalog, tenant, "report")
    await catalog.trash(tenant, "report", ANY)
    await catalog.bin.doom_now(tenant, gone.attachment)
    replayed = found("report", 60, tenant=tenant, attachment=gone.attachment)
    other = found("other", 60, tenant=tenant)
    refused = await catalog.recovery.add([], [replayed, other], "east")
    assert refused == {replayed.version.blob: "purged"}
    await catalog.recovery.settle()
    (doomed,) = await catalog.bin.doomed(9)
    assert doomed.version.id == gone.id
    assert await catalog.bin.trashed(tenant) == []
    assert len(await catalog.list(tenant, "", None, 9)) == 1


async def test_what_was_purged_while_it_was_read_stays_away(
    catalog: SqlCatalog, tenant: str
) -> None:
    committed, forgotten, runs = (new_upload(tenant) for _ in range(3))
    read = []
    for upload in (committed, forgotten, runs):
        version = version_of(upload, await catalog.begin(upload, upload.id))
        read.append(Recovered(version, upload.id))
    begun = await catalog.running([each.version.blob for each in read])
    first = read[0].version
    await catalog.commit(first, {"east": ReplicaState.STORED}, ANY, None)
    await purge(catalog, tenant, committed.id)
    await catalog.fence(forgotten.id)
    await catalog.forget(forgotten.id)

    refused = await catalog.recovery.add([], read, "east", begun)

    assert refused == {first.blob: "purged", forgotten.blob: "purged"}
    assert await catalog.known([committed.blob, forgotten.blob]) == set()
    assert await catalog.recovery.settle() == Settled(1, 0, 0)
    assert [each.version.id for each in await catalog.list(tenant, "", None, 9)] == [runs.id]
    assert await catalog.bin.trashed(tenant) == []


async def test_what_was_committed_while_it_was_read_is_as_it_was(
    catalog: SqlCatalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "report"))
    begun = await catalog.running([upload.blob])
    await catalog.commit(version, {"east": ReplicaState.STORED}, ANY, None)
    assert await catalog.recovery.add([], [Recovered(version, "report")], "east", begun) == {}
    assert await catalog.recovery.settle() == Settled()
    assert (await catalog.find(tenant, "report")).version == version


async def test_what_a_reseal_gave_up_while_it_was_read_replaces_nothing(
    catalog: SqlCatalog, tenant: str
) -> None:
    version = await put(catalog, tenant, "report")
    new = replace(version, blob=new_id(), kek=kek_of(tenant, 2))
    assert await catalog.wraps.intend(version, new.blob, new.kek)
    begun = await catalog.running([new.blob])
    await catalog.wraps.abandon(new.blob)
    await catalog.wraps.leftover_gone(new.blob)
    sealed = version.created + timedelta(days=1)
    refused = await catalog.recovery.add([], [Recovered(new, "report", sealed)], "east", begun)
    assert refused == {new.blob: "purged"}
    assert (await catalog.find(tenant, "report")).version == version
    assert await catalog.known([new.blob]) == set()


async def test_a_version_that_is_being_purged_gets_no_replica_back(
    catalog: SqlCatalog, tenant: str
) -> None:
    old = await put(catalog, tenant, "report")
    await put(catalog, tenant, "report")
    await catalog.bin.retain(tenant, Retention(trash=timedelta(), versions=0))
    assert await catalog.bin.doom(9) == 1
    for target in ("primary", "backup", "east"):
        await catalog.bin.gone(old.id, target)

    refused = await catalog.recovery.add([], [Recovered(old, "report")], "east")

    assert refused == {old.blob: "purged"}
    assert await catalog.bin.purge(old.id)


async def purge(catalog: SqlCatalog, tenant: str, reference: str) -> None:
    """Do to an attachment what a purge does, once no target holds anything of it."""
    version = (await catalog.find(tenant, reference)).version
    await catalog.trash(tenant, reference, ANY)
    await catalog.bin.doom_now(tenant, version.attachment)
    await catalog.bin.gone(version.id, "east")
    assert await catalog.bin.purge(version.id)


async def test_what_was_replaced_or_superseded_is_kept_from_now_on(catalog: SqlCatalog) -> None:
    first, second = found("report", 1), found("report", 2)
    newest = found("report", 9, attachment=second.version.attachment)
    await catalog.recovery.add([TENANT], [first, second, newest], "east")
    await catalog.recovery.settle()
    await catalog.bin.retain(TENANT.id, Retention(trash=timedelta(), versions=0))
    (trashed,) = await catalog.bin.trashed(TENANT.id)
    assert trashed.attachment.id == first.version.attachment
    assert trashed.attachment.deleted == START
    assert await catalog.bin.doom(9) == 2
    assert {each.version.id for each in await catalog.bin.doomed(9)} == {
        first.version.id,
        second.version.id,
    }


async def test_nothing_that_is_not_settled_is_in_the_trash(catalog: SqlCatalog) -> None:
    await catalog.recovery.add([TENANT], [found()], "east")
    assert await catalog.bin.trashed(TENANT.id) == []
    await catalog.bin.retain(TENANT.id, Retention(trash=timedelta(), versions=0))
    assert await catalog.bin.doom(9) == 0
    assert (await catalog.recovery.settle()).versions == 1
