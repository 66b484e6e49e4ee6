"""The scrub over stores in memory: what it finds of each replica, and what it leaves alone."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from envelope.envelope import decode, encode
from gateway.catalog import tables
from gateway.errors import RunLost, StoreDenied, StoreError, StoreUnavailable
from gateway.ports import Finding, Rewrapped, Stale
from gateway.repair.findings import Kind, Tally, TargetAway
from tests.contracts.catalog.samples import START
from tests.doubles.blobs import flipped, overwrite, rewrapped, seal
from tests.doubles.scrub_site import Row, Site, scrub_site

DAY = timedelta(days=1)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with scrub_site(tmp_path) as made:
        yield made


async def test_whole_replicas_are_verified_and_nothing_is_written(site: Site) -> None:
    blobs = [await site.store(), await site.store(b"tiny", inline=True), await site.store(b"")]
    calls = list(site.east.calls)
    tally = await site.share()
    assert (tally.verified, tally.bytes) == (3, sum(b.version.body_size for b in blobs))
    assert not tally.found
    assert site.east.calls == calls
    held = await site.catalog.replicas.unchecked("east", 9)
    assert [each.checked for each in held] == [START] * 3
    assert (await site.catalog.replicas.unchecked("primary", 9))[0].checked is None


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("flip body", Kind.DAMAGED, "flipped"),
        ("flip envelope", Kind.DAMAGED, ""),
        ("truncate", Kind.DAMAGED, "short"),
        ("extend", Kind.DAMAGED, "long"),
        ("empty", Kind.DAMAGED, "short"),
        ("no body", Kind.MISSING, "absent"),
        ("no envelope", Kind.MISSING, "absent"),
        ("swap", Kind.SWAPPED, "swapped"),
        ("replay", Kind.REPLAYED, "replayed"),
    ],
)
async def test_each_fault_is_found_by_its_kind(
    site: Site, fault: str, kind: Kind, reason: str
) -> None:
    blob, other = await site.store(), await site.store()
    store = site.east
    if fault == "flip body":
        await overwrite(store, blob.body_key, flipped(blob.body, 999))
    elif fault == "flip envelope":
        await overwrite(store, blob.envelope_key, flipped(blob.sealed, 999))
    elif fault == "truncate":
        await overwrite(store, blob.body_key, blob.body[:-1])
    elif fault == "extend":
        await overwrite(store, blob.body_key, blob.body + b"x")
    elif fault == "empty":
        await overwrite(store, blob.body_key, b"")
    elif fault == "no body":
        await store.delete(blob.body_key)
    elif fault == "no envelope":
        await store.delete(blob.envelope_key)
    elif fault == "swap":
        await overwrite(store, blob.envelope_key, other.sealed)
    else:
        older = seal(b"older", tenant=site.tenant, attachment=blob.version.attachment)
        await overwrite(store, blob.envelope_key, older.sealed)
        await overwrite(store, blob.body_key, older.body)
    tally = await site.share()
    assert tally.found == {kind: 1}
    (trouble,) = tally.troubles
    assert (trouble.version, trouble.blob) == (blob.version.id, blob.version.blob)
    assert not reason or trouble.reason == reason
    assert tally.verified == 1
    state = "missing" if kind is Kind.MISSING else "damaged"
    assert await site.states(blob.version) == {"primary": "stored", "east": state}
    assert await site.states(other.version) == {"primary": "stored", "east": "stored"}


@pytest.mark.parametrize("silence", [StoreUnavailable("down"), StoreDenied("no")])
async def test_a_target_that_does_not_answer_is_not_damaged(
    site: Site, silence: StoreError
) -> None:
    blob = await site.store()
    site.east.silence = silence
    with pytest.raises(TargetAway, match="east"):
        await site.share()
    assert await site.states(blob.version) == {"primary": "stored", "east": "stored"}


async def test_it_goes_on_when_the_target_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.store()
    site.east.silence = StoreUnavailable("down")
    real = site.east.check

    async def back_at_the_third() -> None:
        if site.east.checks >= 3:
            site.east.silence = None
        await real()

    monkeypatch.setattr(site.east, "check", back_at_the_third)
    tally = await site.share(patience=20.0)
    assert (tally.verified, tally.unreachable) == (1, 0)


async def test_one_object_that_does_not_answer_stops_nothing(site: Site) -> None:
    blobs = [await site.store() for _ in range(5)]
    site.east.silent_keys = frozenset({blobs[2].body_key})
    tally = await site.share()
    assert (tally.verified, tally.unreachable) == (4, 1)
    assert not tally.found
    assert await site.states(blobs[2].version) == {"primary": "stored", "east": "stored"}


async def test_a_thirtieth_a_day_verifies_everything_within_the_cycle(site: Site) -> None:
    blobs = [await site.store() for _ in range(60)]
    assert (await site.share()).verified == 60  # nobody had verified any of them
    shares = []
    for _ in range(30):
        site.clock.now += DAY
        shares.append((await site.share()).verified)
    assert shares == [2] * 30
    oldest = (await site.catalog.replicas.unchecked("east", 1))[0].checked
    assert oldest is not None
    assert site.clock.now - oldest <= timedelta(days=30)
    await overwrite(site.east, blobs[7].body_key, blobs[7].body[:-1])
    found = 0
    for _ in range(30):
        site.clock.now += DAY
        found += (await site.share()).found[Kind.DAMAGED]
    assert found == 1


async def test_a_run_ends_however_much_is_uploaded_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await site.store()
    await site.share()
    site.clock.now += timedelta(days=31)
    await site.store()
    uploads = 0
    report = site.catalog.replicas.report

    async def busy(findings: Sequence[Finding]) -> int:
        nonlocal uploads
        uploads += 1
        await site.store()
        return await report(findings)

    monkeypatch.setattr(site.catalog.replicas, "report", busy)
    tally = await site.share()
    # The one that was there and nobody had verified, and those that are overdue.
    assert (tally.verified, tally.again) == (5, 4)
    assert uploads == 2


async def test_what_is_overdue_is_verified_beyond_the_share(site: Site) -> None:
    for _ in range(10):
        await site.store()
    await site.share()
    site.clock.now += timedelta(days=31)
    assert (await site.share()).verified == 10


async def test_everything_on_demand_goes_on_where_it_was(site: Site) -> None:
    for _ in range(200):
        await site.store(os.urandom(50), inline=True)
    row = Row(stop_at=2)
    with pytest.raises(RunLost):
        await site.scrub().all("east", row)
    before, row.stop_at = row.run.progress["verified"], 1000
    assert 0 < before < 200
    tally = Tally()
    await site.scrub().all("east", row, tally=tally)
    # What was verified and not yet on record is verified once more, a page at most.
    assert tally.verified == 200
    assert row.run.progress["verified"] == 200


async def test_what_the_catalog_garbled_is_no_target_s_fault(site: Site) -> None:
    blob = await site.store(b"tiny", inline=True)
    assert blob.version.inline is not None
    change = update(tables.versions).values(inline=flipped(blob.version.inline, 99))
    await site.catalog._database.write(lambda connection: connection.execute(change) and None)
    tally = await site.share()
    assert tally.found == {Kind.UNMEASURED: 1}
    assert await site.states(blob.version) == {"primary": "stored", "east": "stored"}


async def test_what_two_targets_agree_on_is_not_their_fault(site: Site) -> None:
    blob = await site.store()
    other = seal(b"x" * 3000, tenant=site.tenant, attachment=blob.version.attachment)
    core = decode(other.version.envelope)
    context = decode(blob.version.envelope).core.context
    forged = encode(replace(core, core=replace(core.core, context=context)))
    change = update(tables.versions).values(envelope=forged)
    await site.catalog._database.write(lambda connection: connection.execute(change) and None)
    tally = await site.share()
    assert tally.found == {Kind.UNMEASURED: 1}
    assert tally.troubles[0].reason == "contradicted"
    assert await site.states(blob.version) == {"primary": "stored", "east": "stored"}


async def test_what_was_purged_meanwhile_is_no_finding(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await site.store()
    await site.east.delete(blob.body_key)

    async def gone(version: str) -> None:
        del version

    monkeypatch.setattr(site.catalog.replicas, "version", gone)
    row = Row()
    tally = await site.scrub().all("east", row)
    assert (tally.verified, dict(tally.found)) == (0, {})
    assert await site.states(blob.version) == {"primary": "stored", "east": "stored"}


async def test_an_older_envelope_than_the_catalogs_is_written_again(site: Site) -> None:
    blob, other = await site.store(), await site.store(b"tiny", inline=True)
    newer = [replace(each, version=rewrapped(each)) for each in (blob, other)]
    for version in (each.version for each in newer):
        change = Rewrapped(version.id, version.blob, "k1", "k2", version.envelope)
        await site.catalog.wraps.rewrap([change])
    pushed = await _stale(site)
    assert len(pushed) == 4
    for stale in pushed:  # as if they were written; but one is lost again
        await site.catalog.wraps.pushed(stale, "k2")
    current = newer[1]
    await overwrite(site.east, other.envelope_key, current.sealed)
    tally = await site.share()
    assert (tally.verified, tally.stale, tally.ahead) == (2, 1, 0)
    assert not tally.found
    (left,) = await _stale(site)
    assert (left.version.id, left.target, *left.keks) == (blob.version.id, "east", "k1")


async def _stale(site: Site) -> Sequence[Stale]:
    return await site.catalog.wraps.claim_stale(
        tenant=None, targets=["primary", "east"], lease=DAY, limit=9
    )
